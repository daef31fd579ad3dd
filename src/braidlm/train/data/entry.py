"""Index entry of a document: what is kept of it beside its tokens."""

import hashlib
from typing import NamedTuple

import numpy as np

# Fields of an entry: the shard it lies in and where it ends there, the source it came from and its line
# (or row, from 1; 0 for a whole file), and 64 bits of a hash of its content.
ENTRY = np.dtype([("end", "<i8"), ("line", "<i8"), ("hash", "<u8"), ("source", "<i4"), ("shard", "<i4")])


def digest_of(ids_T: np.ndarray) -> int:
    """Hash of a document's token ids, 64 bits."""
    return int.from_bytes(hashlib.blake2b(ids_T.astype("<u4").tobytes(), digest_size=8).digest(), "little")


class Source(NamedTuple):
    """Source of documents; `unit` is what its documents are counted in: line, row, or file."""

    name: str
    unit: str

    def place(self, line: int) -> str:
        """Place of a document for messages: "a.jsonl, line 3"."""
        return f"{self.name}, {self.unit} {line}" if line else self.name
