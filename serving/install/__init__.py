"""The server's own environment: what is installed, where, and how it is found."""
