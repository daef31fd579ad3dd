"""The machine: files, memory, digests."""
