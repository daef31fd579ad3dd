"""Bits of weights by precision, as floors count them; apart, because help texts name precisions without torch."""

# Bits of a weight in a matrix, with the scales of its group.
BITS = {"f32": 32, "bf16": 16, "int8": 8.5, "int4": 4.5}
