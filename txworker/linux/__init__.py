"""The kernel's interfaces, thin and typed. No decisions, standard library only."""
