"""Tokenizers and chat formats: text on its way into models and out of them."""
