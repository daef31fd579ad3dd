"""Training: from nothing, further, or of a part; on one process or several."""
