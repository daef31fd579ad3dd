"""Tree of sequences by their common beginnings: what several begin with is read once."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..text.common_prefix import common_length

# A shorter common part is not read apart: a pass for it would cost more than the tokens that it saves.
LEAST = 16


class Branch(NamedTuple):
    """Tokens [begin, end) that the sequences number [first, last) have in common, after those that are read already."""

    first: int
    last: int
    begin: int
    end: int


class PrefixTree:
    """Tree of different sequences in increasing order; numbers of sequences are places in that order."""

    def __init__(self, sequences: Sequence[Sequence[int]], least: int = LEAST) -> None:
        """`least` is how many common tokens are worth a branch of their own."""
        self._sequences = sequences
        self._least = least

    def roots(self) -> Iterator[Branch]:
        """Branches that begin with the first token."""
        return self._branches(0, len(self._sequences), 0, 0)

    def after(self, branch: Branch) -> Iterator[Branch]:
        """Branches that go on where one ends."""
        return self._branches(branch.first, branch.last, branch.end, branch.end)

    def _branches(self, first: int, last: int, begin: int, depth: int) -> Iterator[Branch]:
        """Branches from `begin` on of sequences that have `depth` tokens in common, at least `begin`."""
        if first < last and len(self._sequences[first]) == depth:  # it ends here
            if depth > begin:
                yield Branch(first, first + 1, begin, depth)
            first += 1
        while first < last:
            stop = self._same_next(first, last, depth)
            end = common_length(self._sequences[first], self._sequences[stop - 1])
            if stop == first + 1 or end - begin >= self._least:
                yield Branch(first, stop, begin, end)
            else:
                yield from self._branches(first, stop, begin, end)
            first = stop

    def _same_next(self, first: int, last: int, depth: int) -> int:
        """The end of the sequences from `first` on whose token at `depth` is that of the first."""
        token = self._sequences[first][depth]
        stop = first + 1
        while stop < last and self._sequences[stop][depth] == token:
            stop += 1
        return stop
