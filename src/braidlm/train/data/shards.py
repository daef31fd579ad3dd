"""A directory of tokens, opened: its documents for training, and those held out.

Tokens stay in memory maps; the index of all documents is in memory.

Legend: N = documents.
"""

import functools
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...tokenizer import Tokenizer
from .documents import Content, Documents
from .entry import ENTRY, Source
from .manifest import Manifest, tokenizer_hash
from .worker import file_of

# Every map holds a file open, of which a process may have about a thousand.
_MAPS = 128


class Shards:
    """What `build` has written to `directory`. `InputError` if it is damaged, or made by another tokenizer."""

    def __init__(self, directory: Path, tokenizer: Tokenizer) -> None:
        self.directory, self.manifest = directory, Manifest.read(directory)
        if self.manifest.tokenizer != tokenizer_hash(tokenizer):
            raise InputError(
                f"{directory} was tokenized with another vocabulary (of {self.manifest.vocabulary} tokens, this one "
                f"has {tokenizer.vocab_size}); tokenize the sources again with this one"
            )
        self._dtype = np.dtype(self.manifest.dtype)
        self._check_sizes()
        index_N = np.concatenate([self._index(number) for number in range(len(self.manifest.shards))])
        content = functools.lru_cache(_MAPS)(self._content)
        sources = [Source(source.name, source.unit) for source in self.manifest.sources]
        held_N = held_out(index_N["hash"], self.manifest.holdout)
        self.training = Documents(index_N, content, sources, np.flatnonzero(~held_N))
        self.held_out = Documents(index_N, content, sources, np.flatnonzero(held_N))

    def _check_sizes(self) -> None:
        for number, shard in enumerate(self.manifest.shards):
            sizes = {"tokens": shard.tokens * self._dtype.itemsize, "index": shard.documents * ENTRY.itemsize}
            for suffix, expected in (sizes | ({"trained": shard.tokens} if shard.masked else {})).items():
                path = file_of(self.directory, number, suffix)
                try:
                    found = path.stat().st_size
                except OSError as error:
                    raise InputError(f"{path} cannot be read: {error.strerror}; tokenize the sources again") from None
                if found != expected:
                    raise InputError(
                        f"{path} is damaged: it has {found} bytes instead of {expected}; tokenize the sources again"
                    )

    def _index(self, number: int) -> np.ndarray:
        path, shard = file_of(self.directory, number, "index"), self.manifest.shards[number]
        index_N = np.fromfile(path, ENTRY)
        ends_N = index_N["end"]
        if len(ends_N) and (np.diff(ends_N, prepend=0).min() < 1 or ends_N[-1] != shard.tokens):
            raise InputError(f"{path} is damaged: its documents do not make up its tokens; tokenize the sources again")
        return index_N

    def _content(self, number: int) -> Content:
        ids_T = np.memmap(file_of(self.directory, number, "tokens"), self._dtype, "r")
        masked = self.manifest.shards[number].masked
        return Content(ids_T, np.memmap(file_of(self.directory, number, "trained"), np.uint8, "r") if masked else None)


def held_out(hash_N: np.ndarray, holdout: float) -> np.ndarray:
    """Which documents are held out, bool: a share of them below 1, or a number of them; equal ones together.

    It depends on a document's content alone, so that it stays held out (or not) where others are added.
    """
    if not holdout:
        return np.zeros(len(hash_N), bool)
    if holdout < 1:
        held_N = hash_N < np.uint64(int(holdout * 2**64))
    else:
        last = min(int(holdout), len(hash_N)) - 1
        held_N = hash_N <= np.partition(hash_N, last)[last]
    if not held_N.any() or held_N.all():
        raise InputError(
            f"of {len(hash_N)} documents, a holdout of {holdout:g} keeps {held_N.sum()} from training; "
            "there must be some of both (a number of documents can be given, too)"
        )
    return held_N
