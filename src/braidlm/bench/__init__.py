"""Measured speed: braidlm beside its peers on the same weights, and beside what the machine could do at best."""
