"""One sequence between two tokens: immutable, so that forks, snapshots and moves are plain references."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import InputError, StateError
from ..spec import ModelSpec
from ..spec.state import FullKV, RecurrentState, SharedKV, WindowKV
from .kv import KV_DTYPES, KeyValues


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
        if kv not in KV_DTYPES:
            raise InputError(f"kv_dtype is {kv!r}, but must be one of {', '.join(KV_DTYPES)}")
        return cls(dtype, kv)

    @property
    def name(self) -> str:
        """The activations' dtype as a word."""
        return str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Identity:
    """What computes a sequence's state. States are exchangeable between equal ones, whatever they are called.

    fingerprint: of the weights, the adapter and the learned initial state. dtype: of activations. kv_dtype: of stored
    keys and values. label: for people.
    """

    fingerprint: str
    dtype: str
    kv_dtype: str
    label: str = field(default="", compare=False)

    def __str__(self) -> str:
        label = self.label or "the model itself"
        return f"{label} ({self.fingerprint[:12]}, {self.dtype} with {self.kv_dtype} keys and values)"

    def require(self, wanted: "Identity", what: str) -> None:
        """`StateError` that names both unless they are equal; `what` has the state of this one."""
        if self.fingerprint != wanted.fingerprint:
            raise StateError(
                f"{what} belongs to another model, adapter or initial state: it is of {self}, but this is {wanted}"
            )
        if self != wanted:
            raise StateError(
                f"{what} is for {self.dtype} with {self.kv_dtype} keys and values, "
                f"not {wanted.dtype} with {wanted.kv_dtype}"
            )


@dataclass(frozen=True)
class LayerState:
    """One block's slots for one sequence; `kv` is None where the block has none of its own."""

    recurrent: dict[str, Tensor]
    kv: KeyValues | None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tensor.nbytes for tensor in self.recurrent.values()) + (self.kv.nbytes if self.kv else 0)


@dataclass(frozen=True)
class SequenceState:
    """One sequence, and what computes it: None where states are neither stored nor compared, as in training."""

    length: int
    layers: tuple[LayerState, ...]
    identity: Identity | None = None

    def detached(self) -> "SequenceState":
        """The same numbers without their history."""
        layers = (
            LayerState({name: t.detach() for name, t in layer.recurrent.items()}, layer.kv and layer.kv.detached())
            for layer in self.layers
        )
        return replace(self, layers=tuple(layers))

    @property
    def ahead(self) -> int:
        """Positions of keys and values before those of the user's first token, which were learned."""
        return next((layer.kv.length - self.length for layer in self.layers if layer.kv is not None), 0)


def empty_sequence(spec: ModelSpec, precision: Precision, device: torch.device) -> SequenceState:
    """A sequence before the learned prefix and the first token: the only allocator."""
    layers = []
    for slots in spec.state_specs:
        recurrent: dict[str, Tensor] = {}
        kv = None
        for slot in slots:
            match slot:
                case RecurrentState(name=name, shape=shape, dtype=kind):
                    recurrent[name] = torch.zeros(shape, dtype=_slot_dtype(kind, precision.dtype), device=device)
                case FullKV() | WindowKV():
                    kv = KeyValues(slot, precision.kv)
                case SharedKV():
                    pass
        layers.append(LayerState(recurrent, kv))
    return SequenceState(-spec.meta_tokens, tuple(layers))


def _slot_dtype(kind: str, activation: torch.dtype) -> torch.dtype:
    if kind == "activation":
        return activation
    if activation == torch.float64:  # the definition in float64 is every kernel's oracle
        return torch.complex128 if kind == "complex64" else torch.float64
    return getattr(torch, kind)
