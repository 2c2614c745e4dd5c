"""Tensors to a server and back: gRPC, HTTP, shared memory, retries, and the errors they map to."""
