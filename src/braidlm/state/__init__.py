"""State of sequences between tokens: recurrent states, KV pages, and their files."""
