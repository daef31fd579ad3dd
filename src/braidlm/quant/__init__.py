"""Weights in few bits: which, how they are rounded, with or without calibration text."""
