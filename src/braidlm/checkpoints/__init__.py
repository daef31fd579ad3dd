"""Checkpoints of others as they are found on disk: files, names, quantized weights, nested configs."""
