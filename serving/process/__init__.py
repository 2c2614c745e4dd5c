"""A server as a process: started, guarded, ended with all its children."""
