"""Training and its data: from documents to packed batches (`data/`), and the loop that trains on them."""
