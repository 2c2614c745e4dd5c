"""Millions of videos to one Parquet table: Ray Data spreads them over cores and nodes, Triton answers."""
