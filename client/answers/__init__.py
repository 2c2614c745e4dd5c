"""What a server says of itself and of videos, from tensors to what users hold."""
