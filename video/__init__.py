"""A file to frames: containers, seeking, clips and streams, in processes that can be ended."""
