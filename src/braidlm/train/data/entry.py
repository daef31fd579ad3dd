"""What is kept of a document beside its tokens."""

import hashlib
from typing import NamedTuple

import numpy as np

# What is kept of each document: the shard it lies in and where it ends there, the source it came from and its line
# (or row, from 1; 0 for a whole file), and 64 bits of a hash of its content.
ENTRY = np.dtype([("end", "<i8"), ("line", "<i8"), ("hash", "<u8"), ("source", "<i4"), ("shard", "<i4")])


def digest_of(ids_T: np.ndarray) -> int:
    """64 bits of a hash of a document's ids."""
    return int.from_bytes(hashlib.blake2b(ids_T.astype("<u4").tobytes(), digest_size=8).digest(), "little")


class Source(NamedTuple):
    """Where documents came from; `unit` is what its documents are counted in: line, row, or file."""

    name: str
    unit: str

    def place(self, line: int) -> str:
        """A document's place for messages: "a.jsonl, line 3"."""
        return f"{self.name}, {self.unit} {line}" if line else self.name
