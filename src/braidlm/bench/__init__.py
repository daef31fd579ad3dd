"""Benchmarks: speed beside baselines on the same weights in one run, and beside the machine's limits."""
