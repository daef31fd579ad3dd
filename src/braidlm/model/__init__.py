"""The model, its initial weights, its size: blocks in a row."""
