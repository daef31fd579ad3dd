"""Grafting: parts of trained models replaced by others that do the same at another cost."""
