"""Checkpoints, read and written: safetensors, GGUF, FP8, prefixes of names, quantized weights."""
