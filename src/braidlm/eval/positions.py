"""Sums by position over sequences that one or several models read side by side.

Recurrences lose differently near and far, so that a mean over a text can hide where a model fails.

Legend: K = measured quantities, T = tokens of a slice, P = positions, V = vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InputError
from ..system.progress import ProgressFunction
from .reader import Reader
from .sequences import batches, passes

# Positions at which one bucket ends and the next begins.
BORDERS = (32, 128, 512, 2048, 8192, 32768)

# Of the log probabilities [T, V] of each model and the targets [T]: the quantities [K, T].
Measure = Callable[[Sequence[Tensor], Tensor], Tensor]


def sums_by_position(
    readers: Sequence[Reader], sequences: Sequence[Tensor], measure: Measure, progress: ProgressFunction | None = None
) -> Tensor:
    """Sums [K, P] in float64 of what `measure` finds in every token but the first; P is one less than the longest.

    `progress(done, total)` is called for each sequence.
    """
    length = max(map(len, sequences), default=0)
    if min(map(len, sequences), default=0) < 2:
        raise InputError("a sequence has fewer than 2 tokens, so that there is none to predict")
    sums_KP, done = torch.zeros(0, length - 1, dtype=torch.float64), 0
    for batch in batches(sequences):
        for part, *hidden in zip(passes(batch), *(reader.over(batch) for reader in readers), strict=True):
            for piece in readers[0].slices(len(part.targets_T)):
                logs = [reader.logs(hidden_TD[piece]) for reader, hidden_TD in zip(readers, hidden, strict=True)]
                found_KT = measure(logs, part.targets_T[piece]).double()
                sums_KP = sums_KP if len(sums_KP) else sums_KP.new_zeros(len(found_KT), length - 1)
                sums_KP.index_add_(1, part.positions_T[piece], found_KT)
        for _ in batch:
            done += 1
            if progress is not None:
                progress(done, len(sequences))
    return sums_KP


def buckets(positions: int, borders: Sequence[int] = BORDERS) -> Iterator[tuple[int, int]]:
    """Begin and end of each bucket of so many positions."""
    return pairwise([0, *(border for border in borders if border < positions), positions])


def surprise(logs_TV: Tensor, targets_T: Tensor) -> Tensor:
    """Negative log likelihood of each target, [T], in nats."""
    return -logs_TV.gather(-1, targets_T[:, None])[:, 0].double()
