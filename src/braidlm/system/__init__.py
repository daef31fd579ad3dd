"""Files, memory, digests: what is asked of the machine."""
