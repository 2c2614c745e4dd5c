"""A server under load: perf_analyzer, its inputs, and where the time goes."""
