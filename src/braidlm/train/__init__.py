"""Training: from texts to packed batches (`data/`), and the loop that learns from them."""
