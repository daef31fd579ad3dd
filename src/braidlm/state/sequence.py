"""State of one sequence between two tokens: immutable, so that forks and snapshots are plain references."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import InputError, StateError
from ..spec import ModelSpec
from ..spec.state import FullKV, RecurrentState, SharedKV, WindowKV
from ..system.dtypes import long_name, name_of
from .kv import KV_DTYPES, KeyValues


@dataclass(frozen=True)
class Precision:
    """Dtype of activations, and the dtype in which keys and values are stored."""

    dtype: torch.dtype
    kv: str

    @classmethod
    def of(cls, dtype: torch.dtype, kv_dtype: str | None = None) -> "Precision":
        """The precision for activations of `dtype`; `kv_dtype` None stores keys and values as activations are."""
        kv = long_name(kv_dtype or name_of(dtype))
        if kv not in KV_DTYPES:
            raise InputError(f"kv_dtype is {kv!r}, but must be one of {', '.join(KV_DTYPES)}")
        return cls(dtype, kv)

    @property
    def name(self) -> str:
        """Name of the activations' dtype, such as "bfloat16"."""
        return name_of(self.dtype)


@dataclass(frozen=True)
class Identity:
    """Identity of the model that computes a state: states can be exchanged between models of equal identity.

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
        """Raises `StateError` unless equal to `wanted`, naming both; `what` is the state of this identity."""
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
    """State of one block for one sequence: tensors by name, and a KV cache if the block has one of its own."""

    recurrent: dict[str, Tensor]
    kv: KeyValues | None

    @property
    def nbytes(self) -> int:
        """Bytes of the recurrent states and of the KV cache."""
        return sum(tensor.nbytes for tensor in self.recurrent.values()) + (self.kv.nbytes if self.kv else 0)


@dataclass(frozen=True)
class SequenceState:
    """State of one sequence after `length` user tokens.

    `identity` is that of the model that computes it; None where states are neither stored nor compared, as in training.
    """

    length: int
    layers: tuple[LayerState, ...]
    identity: Identity | None = None

    def detached(self) -> "SequenceState":
        """A copy without autograd history: gradients end here."""
        layers = (
            LayerState({name: t.detach() for name, t in layer.recurrent.items()}, layer.kv and layer.kv.detached())
            for layer in self.layers
        )
        return replace(self, layers=tuple(layers))

    def truncated(self, length: int) -> "SequenceState":
        """The state as it was after `length` of its tokens, for models that `can_truncate`."""
        less = self.length - length
        layers = (LayerState({}, layer.kv and layer.kv.first(layer.kv.length - less)) for layer in self.layers)
        return replace(self, length=length, layers=tuple(layers))

    @property
    def ahead(self) -> int:
        """Number of positions of keys and values before the user's first token: those of meta tokens."""
        return next((layer.kv.length - self.length for layer in self.layers if layer.kv is not None), 0)


def can_truncate(spec: ModelSpec) -> bool:
    """Whether states can be truncated to an earlier token: they are keys and values of all positions alone."""
    return all(isinstance(part, (FullKV, SharedKV)) for layer in spec.state_specs for part in layer)


def empty_sequence(spec: ModelSpec, precision: Precision, device: torch.device) -> SequenceState:
    """State of a sequence before meta tokens and the first token. The only place that allocates states."""
    layers = []
    for specs in spec.state_specs:
        recurrent: dict[str, Tensor] = {}
        kv = None
        for state in specs:
            match state:
                case RecurrentState(name=name, shape=shape, dtype=kind):
                    recurrent[name] = torch.zeros(shape, dtype=_state_dtype(kind, precision.dtype), device=device)
                case FullKV() | WindowKV():
                    kv = KeyValues(state, precision.kv)
                case SharedKV():
                    pass
        layers.append(LayerState(recurrent, kv))
    return SequenceState(-spec.meta_tokens, tuple(layers))


def _state_dtype(kind: str, activation: torch.dtype) -> torch.dtype:
    if kind == "activation":
        return activation
    if activation == torch.float64:  # the definition in float64 is every kernel's oracle
        return torch.complex128 if kind == "complex64" else torch.float64
    return getattr(torch, kind)
