"""Files, memory, digests and settings: services of the machine."""
