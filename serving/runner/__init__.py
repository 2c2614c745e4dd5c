"""What is copied into a model repository and runs in the server's own environment; imports nothing of ours."""
