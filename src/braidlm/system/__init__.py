"""Services of the machine: files, memory, digests, settings."""
