"""Files of weights, read and written: safetensors, GGUF, FP8, names in front, weights in few bits."""
