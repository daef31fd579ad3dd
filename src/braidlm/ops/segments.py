"""Packed batches: sequences of unequal length back to back, without padding.

Legend: T = tokens of all rows together, R = rows (sequences), L = tokens of one row.

A recurrence or a convolution must never cross from one row into the next. `over_rows` is the one
place that sees to it: it hands an implementation dense [rows, L, ...] groups of equal length, so
that each row is computed exactly as it would be alone, and cuts a row where its state is wanted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Group of rows of equal length and equal cuts, which are computed together."""

    rows: tuple[int, ...]
    length: int
    cuts: tuple[int, ...]


@dataclass(frozen=True)
class Segments:
    """Layout of a packed batch: `lengths` of its rows, and per row the offsets at which its state is wanted.

    `snapshot_positions[r]` are increasing offsets from 1 to `lengths[r]`; () everywhere by default.
    """

    lengths: tuple[int, ...]
    snapshot_positions: tuple[tuple[int, ...], ...] = ()

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Offset of each row's first token in the packed batch, and the total at the end (cu_seqlens)."""
        return (0, *accumulate(self.lengths))

    @property
    def total(self) -> int:
        """Number of tokens of all rows together."""
        return self.starts[-1]

    def snapshot_positions_of(self, row: int) -> tuple[int, ...]:
        """Offsets in `row` at which its state is wanted."""
        return self.snapshot_positions[row] if self.snapshot_positions else ()

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Groups of rows that can be computed together; rows without tokens are left out."""
        found: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for row, length in enumerate(self.lengths):
            if length:
                found.setdefault((length, self.snapshot_positions_of(row)), []).append(row)
        return tuple(Group(tuple(rows), length, cuts) for (length, cuts), rows in found.items())

    def gather(self, x_T: Tensor, group: Group) -> Tensor:
        """Gathers the rows of `group` from a packed [T, ...] tensor, as [rows, L, ...]; a view where possible."""
        shape = (len(group.rows), group.length, *x_T.shape[1:])
        first, last = self.starts[group.rows[0]], self.starts[group.rows[-1] + 1]
        if last - first == len(group.rows) * group.length:
            return x_T[first:last].reshape(shape)
        return torch.cat([x_T[self.starts[r] : self.starts[r + 1]] for r in group.rows]).reshape(shape)

    def scatter(self, parts: Sequence[Tensor]) -> Tensor:
        """Scatters [rows, L, ...] parts, one a group, into one packed [T, ...] tensor: the inverse of `gather`."""
        if len(parts) == 1:
            return parts[0].flatten(0, 1)
        rows = {r: row_L for group, part in zip(self.groups, parts, strict=True) for r, row_L in zip(group.rows, part)}
        return torch.cat([rows[r] for r in sorted(rows)])


class Carried(NamedTuple):
    """Outputs of a packed operation that carries state.

    y_T: packed outputs. state_R: state after each row. snapshots[r][k]: state of row r at its k-th
    snapshot position.
    """

    y_T: Tensor
    state_R: Tensor
    snapshots: tuple[tuple[Tensor, ...], ...]


# An operation over rows of equal length: (inputs [R, L, ...], state [R, ...]) -> (outputs, state).
RowStep = Callable[..., tuple[Tensor, Tensor]]


def over_rows(step: RowStep, inputs_T: Sequence[Tensor], state_R: Tensor, segments: Segments) -> Carried:
    """Runs `step(*inputs_RL, state_R) -> (y_RL, state_R)` over every row of a packed batch.

    The output has the shape and dtype of the first input.
    """
    if not segments.groups:
        return Carried(torch.empty_like(inputs_T[0]), state_R.clone(), ((),) * len(segments.lengths))
    parts: list[Tensor] = []
    finals: list[Tensor] = list(state_R.unbind(0))
    snapshots: list[tuple[Tensor, ...]] = [()] * len(segments.lengths)
    whole = len(segments.groups) == 1 and len(segments.groups[0].rows) == len(segments.lengths)
    for group in segments.groups:
        inputs_RL = [segments.gather(x_T, group) for x_T in inputs_T]
        state = state_R if whole else torch.stack([finals[r] for r in group.rows])
        y_RL, states = _in_pieces(step, inputs_RL, state, group)
        parts.append(y_RL)
        for i, row in enumerate(group.rows):
            finals[row] = states[-1][i]
            snapshots[row] = tuple(at[i] for at in states[: len(group.cuts)])
        if whole:  # nothing to put together
            return Carried(segments.scatter(parts), states[-1], tuple(snapshots))
    return Carried(segments.scatter(parts), torch.stack(finals), tuple(snapshots))


def _in_pieces(step: RowStep, inputs_RL: Sequence[Tensor], state: Tensor, group: Group) -> tuple[Tensor, list[Tensor]]:
    """`step` over pieces that end at the group's cuts: all outputs, and the state after each piece."""
    ends = [cut for cut in group.cuts if cut < group.length] + [group.length]
    outputs, states, begin = [], [], 0
    for end in ends:
        pieces = inputs_RL if len(ends) == 1 else [x_RL[:, begin:end] for x_RL in inputs_RL]
        y_RL, state = step(*pieces, state)
        outputs.append(y_RL)
        states.append(state)
        begin = end
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)), states
