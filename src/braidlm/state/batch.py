"""State of a batch: several sequences, of unequal lengths, that go through the model together.

A `BatchState` is a list of `SequenceState`s, its rows: each a length and, for every block, its tensors. They are
immutable: a forward pass makes new ones. Forking, taking snapshots and moving sequences between batches are
therefore plain references, and cannot go wrong. There is no way to go back by some tokens, since a recurrence
cannot be run backwards: keep a fork instead.

This module does not know what the tensors mean. `SequenceState.length` counts the user's tokens; meta tokens are
counted from below zero, so that a sequence starts at `-meta_tokens`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import StateError
from ..ops import Segments
from ..spec import ModelSpec
from ..system.units import size
from . import state_file
from .kv import KvBatch
from .sequence import Identity, LayerState, Precision, SequenceState
from .state_file import Owner

_FORMAT = "braidlm-state-2"


@dataclass(frozen=True)
class BatchLayerState:
    """State of one block for a whole batch: what a mixer takes and returns.

    `recurrent[name]` is [R, ...] for R rows; `snapshots[name][r][k]` is that of row r at its k-th snapshot position
    (see `ops.Segments`).
    """

    recurrent: dict[str, Tensor]
    kv: KvBatch | None = None
    snapshots: dict[str, tuple[tuple[Tensor, ...], ...]] = field(default_factory=dict)

    def detached(self) -> "BatchLayerState":
        """A copy without autograd history: gradients end here."""
        kv = self.kv
        if kv is not None and kv.new_k is not None and kv.new_v is not None:
            kv = replace(kv, new_k=kv.new_k.detached(), new_v=kv.new_v.detached())
        return replace(self, recurrent={name: t.detach() for name, t in self.recurrent.items()}, kv=kv)

    def layer_states(self, index: int, segments: Segments, *, owns_kv: bool) -> list[LayerState]:
        """State of the block for row `index`: at each of its snapshot positions and, last, after its new tokens."""
        alone = len(segments.lengths) == 1
        # A row of a batch is copied out, so that it does not keep the whole batch's memory.
        final = {name: t[0] if alone else t[index].clone() for name, t in self.recurrent.items()}
        recurrent = [
            final
            if offset == segments.lengths[index]
            else {name: at[index][k].clone() for name, at in self.snapshots.items()}
            for k, offset in enumerate(segments.snapshot_positions_of(index))
        ]
        recurrent.append(final)
        if not owns_kv:
            return [LayerState(tensors, None) for tensors in recurrent]
        assert self.kv is not None
        return [LayerState(*both) for both in zip(recurrent, self.kv.after(index, segments), strict=True)]


class BatchState:
    """State of the sequences of one batch; `lengths[r]` is the number of user tokens that row r has seen."""

    def __init__(
        self,
        spec: ModelSpec,
        precision: Precision,
        rows: Iterable[SequenceState],
        initial: SequenceState,
        device: torch.device,
    ) -> None:
        """Used by `Model`; `reset` returns a row to `initial`, whose identity says which model computes the rows."""
        self.spec = spec
        self.device = device
        self.precision = precision
        self._sequences = list(rows)
        self._initial = initial

    @property
    def identity(self) -> Identity:
        """Identity of the model that computes these sequences; without a fingerprint in training."""
        return self._initial.identity or Identity("", self.precision.name, self.precision.kv)

    @property
    def sequences(self) -> tuple[SequenceState, ...]:
        """States of the sequences, in batch order."""
        return tuple(self._sequences)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of user tokens seen by each row."""
        return tuple(row.length for row in self._sequences)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows; equal to the sum of `spec.state_bytes` over the lengths."""
        return sum(layer.nbytes for row in self._sequences for layer in row.layers)

    def __len__(self) -> int:
        return len(self._sequences)

    def __repr__(self) -> str:
        """Summary: how many tokens each sequence has seen (at most eight are listed), bytes, dtypes."""
        seen = ", ".join(map(str, self.lengths[:8])) + (", ..." if len(self) > 8 else "")
        kv = "" if self.precision.kv == self.precision.name else f", keys and values in {self.precision.kv}"
        many = f"{len(self)} sequence{'s' if len(self) != 1 else ''}"
        return f"BatchState({many} after {seen} tokens; {size(self.nbytes)} in {self.precision.name}{kv})"

    def _with(self, rows: Iterable[SequenceState]) -> "BatchState":
        return BatchState(self.spec, self.precision, rows, self._initial, self.device)

    def _check_row(self, row: int) -> int:
        if not 0 <= row < len(self._sequences):
            raise StateError(f"row {row} does not exist; this state has rows 0 to {len(self._sequences) - 1}")
        return row

    def fork(self, row: int | None = None) -> "BatchState":
        """An independent copy of every row, or of one; nothing is copied until one of them moves on."""
        return self._with(self._sequences if row is None else [self._sequences[self._check_row(row)]])

    def detached(self) -> "BatchState":
        """A copy of every row without autograd history: gradients end here."""
        return self._with(row.detached() for row in self._sequences)

    def restore(self, row: int, snapshot: "BatchState") -> None:
        """Puts the only sequence of `snapshot` in place of `row`."""
        self.require_same(snapshot)
        if len(snapshot) != 1:
            raise StateError(f"a snapshot holds one row, not {len(snapshot)}")
        self._sequences[self._check_row(row)] = snapshot._sequences[0]

    def set_sequence(self, row: int, sequence: SequenceState) -> None:
        """Puts a sequence of this model in place of `row`."""
        self._sequences[self._check_row(row)] = sequence

    def reset(self, row: int | None = None) -> None:
        """Puts one row, or all, back to before the first token."""
        for index in range(len(self._sequences)) if row is None else [self._check_row(row)]:
            self._sequences[index] = self._initial

    def select(self, rows: Sequence[int]) -> "BatchState":
        """A state of the given rows, in the given order."""
        return self._with(self._sequences[self._check_row(row)] for row in rows)

    def append(self, other: "BatchState") -> None:
        """Adds the rows of `other` behind these."""
        self.require_same(other)
        self._sequences.extend(other._sequences)

    def commit(self, other: "BatchState") -> None:
        """Replaces the rows by those that a forward pass of this state returned."""
        self._sequences = list(other._sequences)

    def require_same(self, other: "BatchState") -> None:
        """Raises `StateError` unless `other` is of the same weights, adapter, initial state and precision."""
        other.require(self.identity)

    def require(self, identity: Identity) -> None:
        """Raises `StateError` unless the state is of this identity."""
        self.identity.require(identity, "the state")

    def layer(self, index: int) -> BatchLayerState:
        """State of block `index` for all rows; views where there is one row."""
        parts = [row.layers[index] for row in self._sequences]
        recurrent = {
            name: t[None] if len(parts) == 1 else torch.stack([part.recurrent[name] for part in parts])
            for name, t in parts[0].recurrent.items()
        }
        pasts = tuple(part.kv for part in parts if part.kv is not None)
        return BatchLayerState(recurrent, KvBatch(pasts) if pasts else None)

    def advanced(
        self, layers: Sequence[BatchLayerState], segments: Segments
    ) -> tuple["BatchState", tuple["BatchState", ...]]:
        """State of all rows after a pass that returned `layers`, and for each row its snapshots."""
        rows = [self.stages(index, layers, segments) for index in range(len(self._sequences))]
        return self._with(of_row[-1] for of_row in rows), tuple(self._with(of_row[:-1]) for of_row in rows)

    def stages(self, index: int, layers: Sequence[BatchLayerState], segments: Segments) -> list[SequenceState]:
        """States of row `index` after a pass that returned `layers`: its snapshots and, last, its end."""
        old = self._sequences[index]
        pairs = zip(layers, old.layers, strict=True)
        stages = zip(
            *(layer.layer_states(index, segments, owns_kv=was.kv is not None) for layer, was in pairs), strict=True
        )
        offsets = (*segments.snapshot_positions_of(index), segments.lengths[index])
        return [SequenceState(old.length + n, stage, old.identity) for n, stage in zip(offsets, stages, strict=True)]

    @property
    def owner(self) -> Owner:
        """Owner of the rows, as state files name it."""
        return Owner(self.identity, self.precision, self._initial, self.device)

    def save(self, path: str | Path) -> None:
        """Writes all rows to one safetensors file, whole or not at all."""
        state_file.write_states(path, _FORMAT, self.owner, self._sequences)

    def load(self, path: str | Path) -> "BatchState":
        """The rows that `save` wrote to `path`; refused unless they belong to this model and precision."""
        return self._with(state_file.read_states(path, _FORMAT, self.owner).sequences)
