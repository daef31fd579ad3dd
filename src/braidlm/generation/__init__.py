"""Sampling and stopping: from logits to tokens and text."""
