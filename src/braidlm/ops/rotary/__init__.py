"""Decode steps of rotary positions and of the KV cache, in C++; `layers.rotary` rotates whole sequences."""
