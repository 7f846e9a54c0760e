"""The kernel's interfaces, thin and typed, without decisions. Standard library only."""
