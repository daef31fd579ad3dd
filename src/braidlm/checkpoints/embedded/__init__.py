"""The model that comes with braidlm: its weights in int8, tokenizer, card and licence lie in this directory."""

from pathlib import Path

NAME = "braid-6m"
DIRECTORY = Path(__file__).parent
