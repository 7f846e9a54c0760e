"""Running children: started by launcher.py, seen through transport.py, ended by run.py."""
