"""What sequences carry between tokens, batched and ragged from the start.

A `State` is a list of rows; a `Row` is one sequence: its length and, for every block, the tensors
of its slots. Rows are immutable: a forward pass makes new ones. Forking, taking snapshots and
moving rows between batches are therefore plain references, and cannot go wrong. There is no way
to go back by some tokens: a recurrence cannot be rewound; keep a fork instead.

This module does not know what the slots mean. `Row.length` counts the user's tokens; a learned
prefix is counted from below zero, so that a row starts at `-prefix_tokens`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .digest import digest
from .errors import InputError, StateError
from .files import whole_file
from .kv import FORMATS, KeyValues, KvBatch
from .ops import Segments
from .slots import Fixed, Growing, Ring, Shared
from .spec import ModelSpec

_FORMAT = "braidlm-state-2"


@dataclass(frozen=True)
class Precision:
    """Dtype of activations, and the format in which keys and values are stored."""

    dtype: torch.dtype
    kv: str

    @classmethod
    def of(cls, dtype: torch.dtype, kv_dtype: str | None = None) -> "Precision":
        """`kv_dtype` None stores keys and values as activations are."""
        kv = kv_dtype or str(dtype).removeprefix("torch.")
        kv = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(kv, kv)
        if kv not in FORMATS:
            raise InputError(f"kv_dtype is {kv!r}, but must be one of {', '.join(FORMATS)}")
        return cls(dtype, kv)

    @property
    def name(self) -> str:
        """The activations' dtype as a word."""
        return str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class LayerRow:
    """One block's slots for one sequence; `kv` is None where the block has none of its own."""

    fixed: dict[str, Tensor]
    kv: KeyValues | None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tensor.nbytes for tensor in self.fixed.values()) + (self.kv.nbytes if self.kv else 0)


@dataclass(frozen=True)
class Row:
    """One sequence."""

    length: int
    layers: tuple[LayerRow, ...]


@dataclass(frozen=True)
class LayerState:
    """One block's slots for a whole batch: what a mixer takes and returns.

    `marked[name][r][k]` is the slot `name` of row r at its k-th mark (see `ops.Segments`).
    """

    fixed: dict[str, Tensor]
    kv: KvBatch | None = None
    marked: dict[str, tuple[tuple[Tensor, ...], ...]] = field(default_factory=dict)

    def rows(self, index: int, segments: Segments, *, owns_kv: bool) -> list[LayerRow]:
        """One sequence at each of its marks and, last, after all of its new tokens."""
        alone = len(segments.lengths) == 1
        marks = range(len(segments.marks_of(index)))
        fixed = [{name: at[index][mark].clone() for name, at in self.marked.items()} for mark in marks]
        # A row of a batch is copied out, so that it does not keep the whole batch's memory.
        fixed.append({name: t[0] if alone else t[index].clone() for name, t in self.fixed.items()})
        if not owns_kv:
            return [LayerRow(slots, None) for slots in fixed]
        assert self.kv is not None
        return [LayerRow(*both) for both in zip(fixed, self.kv.after(index, segments), strict=True)]


class State:
    """The sequences of one batch. `lengths[r]` is the number of user tokens that row r has seen."""

    def __init__(
        self,
        spec: ModelSpec,
        precision: Precision,
        rows: Iterable[Row],
        initial: Row,
        fingerprint: str,
        device: torch.device,
    ) -> None:
        """Used by `Model`; `initial` is what `reset` returns a row to."""
        self.spec = spec
        self.device = device
        self.precision = precision
        self.fingerprint = fingerprint
        self._rows = list(rows)
        self._initial = initial

    @property
    def rows(self) -> tuple[Row, ...]:
        """The sequences, in batch order."""
        return tuple(self._rows)

    @property
    def lengths(self) -> tuple[int, ...]:
        """User tokens seen by each row."""
        return tuple(row.length for row in self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows; equal to the sum of `spec.state_bytes` over the lengths."""
        return sum(layer.nbytes for row in self._rows for layer in row.layers)

    def __len__(self) -> int:
        return len(self._rows)

    def _with(self, rows: Iterable[Row]) -> "State":
        return State(self.spec, self.precision, rows, self._initial, self.fingerprint, self.device)

    def _check_row(self, row: int) -> int:
        if not 0 <= row < len(self._rows):
            raise StateError(f"row {row} does not exist; this state has rows 0 to {len(self._rows) - 1}")
        return row

    def fork(self, row: int | None = None) -> "State":
        """An independent copy of every row, or of one; nothing is copied until one of them moves on."""
        return self._with(self._rows if row is None else [self._rows[self._check_row(row)]])

    snapshot = fork

    def restore(self, row: int, snapshot: "State") -> None:
        """Puts the only sequence of `snapshot` in place of `row`."""
        self.require_same(snapshot)
        if len(snapshot) != 1:
            raise StateError(f"a snapshot holds one row, not {len(snapshot)}")
        self._rows[self._check_row(row)] = snapshot._rows[0]

    def put(self, row: int, sequence: Row) -> None:
        """Puts a sequence of this model in place of `row`."""
        self._rows[self._check_row(row)] = sequence

    def reset(self, row: int | None = None) -> None:
        """Puts one row, or all, back to before the first token."""
        for index in range(len(self._rows)) if row is None else [self._check_row(row)]:
            self._rows[index] = self._initial

    def take(self, rows: Sequence[int]) -> "State":
        """A state of the given rows, in the given order."""
        return self._with(self._rows[self._check_row(row)] for row in rows)

    def append(self, other: "State") -> None:
        """Adds the rows of `other` behind these."""
        self.require_same(other)
        self._rows.extend(other._rows)

    def commit(self, other: "State") -> None:
        """Takes over the rows that a forward pass of this state returned."""
        self._rows = list(other._rows)

    def require_same(self, other: "State") -> None:
        """`StateError` unless `other` belongs to the same weights at the same precision."""
        self.require(other.fingerprint, other.precision)

    def require(self, fingerprint: str, precision: Precision) -> None:
        """`StateError` unless the state belongs to these weights at this precision."""
        if fingerprint != self.fingerprint:
            raise StateError("the state belongs to another model: its weights or their dtype are not these")
        if precision != self.precision:
            raise StateError(
                f"the state is for {self.precision.name} with {self.precision.kv} keys and values, "
                f"not {precision.name} with {precision.kv}"
            )

    def layer(self, index: int) -> LayerState:
        """Block `index` of all rows, batched; views where there is one row."""
        parts = [row.layers[index] for row in self._rows]
        fixed = {
            name: t[None] if len(parts) == 1 else torch.stack([part.fixed[name] for part in parts])
            for name, t in parts[0].fixed.items()
        }
        pasts = tuple(part.kv for part in parts if part.kv is not None)
        return LayerState(fixed, KvBatch(pasts) if pasts else None)

    def advanced(self, layers: Sequence[LayerState], segments: Segments) -> tuple["State", tuple["State", ...]]:
        """The rows after a pass that returned `layers`, and for each row its states at its marks."""
        finals: list[Row] = []
        marked: list[State] = []
        for index, old in enumerate(self._rows):
            pairs = zip(layers, old.layers, strict=True)
            stages = zip(
                *(layer.rows(index, segments, owns_kv=was.kv is not None) for layer, was in pairs), strict=True
            )
            offsets = (*segments.marks_of(index), segments.lengths[index])
            rows = [Row(old.length + n, stage) for n, stage in zip(offsets, stages, strict=True)]
            finals.append(rows[-1])
            marked.append(self._with(rows[:-1]))
        return self._with(finals), tuple(marked)

    def save(self, path: str | Path) -> None:
        """Writes all rows to one safetensors file, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        for r, row in enumerate(self._rows):
            for i, layer in enumerate(row.layers):
                held = layer.fixed | (layer.kv.tensors() if layer.kv else {})
                for name, tensor in held.items():
                    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
                    # Rows may share a tensor; the file format wants each to have its own.
                    tensors[f"{r}.{i}.{name}"] = plain.clone(memory_format=torch.contiguous_format)
        about = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "dtype": self.precision.name,
            "kv_dtype": self.precision.kv,
            "lengths": json.dumps(self.lengths),
        }
        about["digest"] = digest_of(about, tensors)
        path = Path(path)
        with whole_file(path) as temporary:
            try:
                save_file(tensors, temporary, about)
            except (OSError, SafetensorError) as error:
                raise InputError(f"cannot save the state to {path}: {error}") from None

    def load(self, path: str | Path) -> "State":
        """The rows that `save` wrote to `path`; refused unless they belong to this model and precision."""
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                self._check_header(about, path)
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
            if about.get("digest") != digest_of(about, tensors):
                raise StateError(f"{path} is damaged: its contents are not those that were saved")
        except FileNotFoundError:
            raise StateError(f"there is no state file {path}") from None
        except (OSError, SafetensorError) as error:
            raise StateError(f"{path} is damaged or no state file: {error}") from None
        try:
            return self._with(_read_rows(self._initial, _read_lengths(about["lengths"]), tensors, self.device))
        except (KeyError, ValueError, RuntimeError) as error:
            raise StateError(f"{path} is damaged: {error}") from None

    def _check_header(self, about: dict[str, Any], path: str | Path) -> None:
        if about.get("format") != _FORMAT:
            raise StateError(f"{path} is no state file of this version (it should say {_FORMAT!r})")
        if about.get("fingerprint") != self.fingerprint:
            raise StateError(f"{path} belongs to another model: its weights or their dtype are not these")
        stored = (about.get("dtype"), about.get("kv_dtype"))
        if stored != (self.precision.name, self.precision.kv):
            raise StateError(
                f"{path} is for {stored[0]} with {stored[1]} keys and values, "
                f"not {self.precision.name} with {self.precision.kv}"
            )


def digest_of(about: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Digest of a state file's header, whatever digest it names, and of all of its tensors."""
    header = json.dumps({key: value for key, value in about.items() if key != "digest"}, sort_keys=True)
    return digest(header, sorted(tensors.items()))


def _read_lengths(text: str) -> list[int]:
    lengths = json.loads(text)
    if not isinstance(lengths, list) or not all(type(n) is int and 0 <= n < 2**40 for n in lengths):
        raise ValueError(f"lengths are {text[:80]}")
    return lengths


def _read_rows(initial: Row, lengths: list[int], tensors: dict[str, Tensor], device: torch.device) -> list[Row]:
    rows = []
    for r, length in enumerate(lengths):
        layers = []
        for i, like in enumerate(initial.layers):
            fixed = {name: _like(tensors.pop(f"{r}.{i}.{name}"), t, name) for name, t in like.fixed.items()}
            prefix = f"{r}.{i}."
            mine = [name for name in tensors if name.startswith(prefix)] if like.kv else []
            held = {name.removeprefix(prefix): tensors.pop(name).to(device) for name in mine}
            seen = like.kv.length - initial.length + length if like.kv else 0
            layers.append(LayerRow(fixed, like.kv and empty_like(like.kv).from_tensors(held, seen)))
        rows.append(Row(length, tuple(layers)))
    if tensors:
        raise ValueError(f"it has the unknown tensor {min(tensors)}")
    return rows


def _like(stored: Tensor, wanted: Tensor, name: str) -> Tensor:
    tensor = torch.view_as_complex(stored) if wanted.is_complex() else stored
    if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
        raise ValueError(f"slot {name} is {tensor.dtype} {tuple(tensor.shape)}")
    return tensor.to(wanted.device)


def empty_like(kv: KeyValues) -> KeyValues:
    """No positions, by the same rule."""
    return KeyValues(kv.slot, kv.form)


def empty_row(spec: ModelSpec, precision: Precision, device: torch.device) -> Row:
    """A sequence before the learned prefix and the first token: the only allocator."""
    layers = []
    for slots in spec.slots:
        fixed: dict[str, Tensor] = {}
        kv = None
        for slot in slots:
            match slot:
                case Fixed(name=name, shape=shape, dtype=kind):
                    fixed[name] = torch.zeros(shape, dtype=_slot_dtype(kind, precision.dtype), device=device)
                case Growing() | Ring():
                    kv = KeyValues(slot, precision.kv)
                case Shared():
                    pass
        layers.append(LayerRow(fixed, kv))
    return Row(-spec.prefix_tokens, tuple(layers))


def _slot_dtype(kind: str, activation: torch.dtype) -> torch.dtype:
    if kind == "activation":
        return activation
    if activation == torch.float64:  # the definition in float64 is every kernel's oracle
        return torch.complex128 if kind == "complex64" else torch.float64
    return getattr(torch, kind)
