"""Bundles to a server that runs: what the command line, the web page and the benchmarks start alike."""
