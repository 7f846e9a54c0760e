"""One job's process as the worker sees it: launcher.py starts it, state_machine.py ends it."""
