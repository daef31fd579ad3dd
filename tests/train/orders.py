"""Documents in memory, in an order that a run can be given: what shards on disk do, without a disk."""

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
    """One document without end: a text over and over, cut into packs; each lane begins at another place."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = torch.tensor(ids)

    def stage(self, begin: int, lanes: int, tokens: int, steps: int) -> "OneText._Stage":
        return self._Stage(self._ids, begin, lanes, tokens, steps)

    class _Stage:
        def __init__(self, ids: torch.Tensor, begin: int, lanes: int, tokens: int, steps: int) -> None:
            self._ids, self._begin, self._tokens, self._steps = ids, begin, tokens, steps
            self.end = begin + lanes * tokens * steps

        def pack(self, step: int, lane: int) -> Pack:
            first = self._begin + (lane * self._steps + step) * self._tokens
            ids = self._ids[(torch.arange(self._tokens + 1) + first) % len(self._ids)]
            return Pack(ids[:-1], ids[1:], (self._tokens,), step > 0, (0,))
