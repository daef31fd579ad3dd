"""Quantization of weights: the policy, round-to-nearest, and calibration on text (GPTQ)."""
