"""Mixture of packings: each packed sequence comes from one of several, by shares, evenly spread.

Which one a sequence comes from follows from its number in the run alone: the multiples of the golden ratio, whose
fractional parts fill the unit interval evenly (Weyl 1916), fall into the parts of it that the packings have. So the
number of sequences that a packing has given is, at any place, within a few of its share.

Legend: N = sequences of a stage.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .pack import Pack, Packing, Stage
from .stream import check_place, check_stage

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # of 2^64


class Position(NamedTuple):
    """Position in a mixture: sequences before it, and the position in each packing."""

    sequences: int
    begins: tuple[Any, ...]


class Mixture:
    """Packing made of several; `shares` are the shares of packed sequences, relative to each other.

    A sequence continues no other one, so that no state is carried from one to the next.
    """

    def __init__(self, packings: Sequence[Packing], shares: Sequence[float]) -> None:
        self.packings = tuple(packings)
        ends = np.cumsum(np.asarray(shares, np.float64)) / sum(shares)
        self._bounds = np.array([int(end * 2.0**64) for end in ends[:-1]], np.uint64)

    def stage(self, begin: Any, batch_size: int, seq_len: int, steps: int) -> "MixtureStage":
        """The `steps` * `batch_size` packed sequences from a position on: 0, or the `end` of another stage."""
        place = begin if isinstance(begin, Position) else Position(0, (0,) * len(self.packings))
        check_stage(place.sequences, batch_size, seq_len, steps)
        chosen_N = self.chosen(place.sequences, batch_size * steps)
        stages: list[Stage | None] = []
        for number, (packing, first) in enumerate(zip(self.packings, place.begins, strict=True)):
            count = int((chosen_N == number).sum())
            stages.append(packing.stage(first, 1, seq_len, count) if count else None)
        return MixtureStage(place, stages, chosen_N, batch_size, steps)

    def chosen(self, first: int, count: int) -> np.ndarray:
        """Number of the packing that each of `count` sequences from the `first` one of the run on comes from, [N]."""
        place_N = np.arange(first + 1, first + count + 1, dtype=np.uint64) * _GOLDEN
        return np.searchsorted(self._bounds, place_N, side="right")


class MixtureStage:
    """Section of a mixture: of each packing a section with one sequence a step, taken when its turn comes."""

    def __init__(
        self, begin: Position, stages: Sequence[Stage | None], chosen_N: np.ndarray, batch_size: int, steps: int
    ) -> None:
        self._begin, self._stages, self._chosen_N = begin, tuple(stages), chosen_N
        self._batch_size, self._steps = batch_size, steps
        self._turn_N = np.zeros(len(chosen_N), np.int64)  # how many of the same packing come before
        for number in range(len(stages)):
            self._turn_N[chosen_N == number] = np.arange((chosen_N == number).sum())

    @property
    def end(self) -> Position:
        """The position at which the next stage begins."""
        ends = [
            begin if stage is None else stage.end for begin, stage in zip(self._begin.begins, self._stages, strict=True)
        ]
        return Position(self._begin.sequences + len(self._chosen_N), tuple(ends))

    def pack(self, step: int, index: int) -> Pack:
        """Packed sequence `index` of the batch of a step."""
        check_place(step, index, self._steps, self._batch_size)
        number = step * self._batch_size + index
        stage = self._stages[int(self._chosen_N[number])]
        assert stage is not None  # it has at least this sequence
        return stage.pack(int(self._turn_N[number]), 0)._replace(continues=False)
