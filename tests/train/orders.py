"""Documents in memory, in an order that a run can be given: what shards on disk do, without a disk."""

import itertools
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


class OneText:
    """One document without end: a text over and over, cut into packs; each lane begins at another place.

    With `cuts` the packs of every other step are cut there into documents of their own.
    """

    def __init__(self, ids: Sequence[int], cuts: Sequence[int] = ()) -> None:
        self._ids, self._cuts = torch.tensor(ids), tuple(cuts)

    def stage(self, begin: int, lanes: int, tokens: int, steps: int) -> "OneText._Stage":
        return self._Stage(self._ids, self._cuts, begin, lanes, tokens, steps)

    class _Stage:
        def __init__(
            self, ids: torch.Tensor, cuts: tuple[int, ...], begin: int, lanes: int, tokens: int, steps: int
        ) -> None:
            self._ids, self._cuts = ids, cuts
            self._begin, self._tokens, self._steps = begin, tokens, steps
            self.end = begin + lanes * tokens * steps

        def pack(self, step: int, lane: int) -> Pack:
            first = self._begin + (lane * self._steps + step) * self._tokens
            ids = self._ids[(torch.arange(self._tokens + 1) + first) % len(self._ids)]
            if not self._cuts or step % 2:
                return Pack(ids[:-1], ids[1:], (self._tokens,), step > 0, (0,))
            places = [0, *self._cuts, self._tokens]
            return pack_of([ids[a:b].tolist() for a, b in itertools.pairwise(places)])
