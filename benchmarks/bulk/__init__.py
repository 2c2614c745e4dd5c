"""Bulk jobs over made videos on a Ray cluster of this machine: what is lost, what it costs beside other ways."""
