"""The model: its blocks in a row, its initial weights, its size."""
