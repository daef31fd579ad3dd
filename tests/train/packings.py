"""Packing of documents in memory, as a run can be given: what shards on disk do, without a disk."""

import itertools
import random
from collections.abc import Sequence

import torch

from braidlm.train.data.pack import Pack


def pack_of(documents: Sequence[Sequence[int]], *, numbers: Sequence[int] | None = None) -> Pack:
    """Whole documents back to back."""
    ids = [token for document in documents for token in document]
    targets = [token for document in documents for token in (*document[1:], -100)]
    lengths = tuple(len(document) for document in documents)
    found = tuple(numbers) if numbers is not None else tuple(range(len(documents)))
    return Pack(torch.tensor(ids), torch.tensor(targets), lengths, False, found)


def random_documents(vocab: int, lengths: Sequence[int]) -> list[list[int]]:
    """Documents of random tokens, the same ones at every call."""
    rng = random.Random(0)
    return [[rng.randrange(vocab) for _ in range(length)] for length in lengths]


class OneText:
    """One document without end: a text over and over, cut into packs; sequences of a batch begin at different places.

    With `cuts` the packs of every other step are cut there into documents of their own.
    """

    def __init__(self, ids: Sequence[int], cuts: Sequence[int] = ()) -> None:
        self._ids, self._cuts = torch.tensor(ids), tuple(cuts)

    def stage(self, begin: int, batch_size: int, seq_len: int, steps: int) -> "OneText._Stage":
        return self._Stage(self._ids, self._cuts, begin, batch_size, seq_len, steps)

    class _Stage:
        def __init__(
            self, ids: torch.Tensor, cuts: tuple[int, ...], begin: int, batch_size: int, seq_len: int, steps: int
        ) -> None:
            self._ids, self._cuts = ids, cuts
            self._begin, self._seq_len, self._steps = begin, seq_len, steps
            self.end = begin + batch_size * seq_len * steps

        def pack(self, step: int, index: int) -> Pack:
            first = self._begin + (index * self._steps + step) * self._seq_len
            ids = self._ids[(torch.arange(self._seq_len + 1) + first) % len(self._ids)]
            if not self._cuts or step % 2:
                return Pack(ids[:-1], ids[1:], (self._seq_len,), step > 0, (0,))
            places = [0, *self._cuts, self._seq_len]
            return pack_of([ids[a:b].tolist() for a, b in itertools.pairwise(places)])
