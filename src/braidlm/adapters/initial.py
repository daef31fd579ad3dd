"""Learned initial states: what a sequence begins with instead of zeros, trained for a task and a few megabytes large.

The recurrent states of each block are the only parameters, and keys and values of a few positions that lie before the
first token; what a model is told in a prompt about a task can be in them from the start (Galim et al. 2024; Li and
Liang 2021). A model's own learned prefix comes before them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError, InputError
from ..layers.linear import Adapter
from ..model.model import Model
from ..ops import Segments
from ..spec.state import WindowKV
from ..state.kv import quantize_kv
from ..state.sequence import Precision, SequenceState
from ..system.files import whole_file
from ..system.safetensors_file import read_safetensors
from ..system.settings import Setting, check_settings
from .attach import freeze
from .origin import origin_of, require_origin

_FORMAT = "braidlm-initial-state-1"
POSITIONS = 16
_KEYS_VALUES = ("k", "v")
_STATES = ("ssm", "modes", "conv")


def _are_states(names: tuple[str, ...]) -> bool:
    return bool(names) and set(names) <= set(_STATES)


@dataclass(frozen=True, kw_only=True)
class StateTuning:
    """Configuration of state tuning: "ssm" is the state of Mamba, "modes" of Hyena, "conv" of short convolutions."""

    states: Annotated[
        tuple[str, ...],
        Setting("Kinds of states that are learned.", valid=_are_states, right=f"some of {', '.join(sorted(_STATES))}"),
    ] = _STATES
    positions: Annotated[
        int | None,
        Setting(
            "Number of learned keys and values, for attention without a window.",
            least=0,
            unset=f"{POSITIONS} without recurrences",
        ),
    ] = None

    def __post_init__(self) -> None:
        check_settings(self)


class InitialState(Adapter):
    """Learned state of one sequence, a float32 parameter each tensor; complex ones have a last dimension of two.

    Keys "k" and values "v" are [positions, heads, size]; keys as they are stored, rotated for their position.
    """

    def __init__(self, tensors: Mapping[tuple[int, str], Tensor]) -> None:
        """The state made of `tensors`, by block and name."""
        super().__init__()
        self._recurrent = {f"{b}_{name}": (b, name) for b, name in tensors if name not in _KEYS_VALUES}
        self.tensors = nn.ParameterDict({f"{b}_{name}": nn.Parameter(t) for (b, name), t in tensors.items()})
        self._keys_values = {block: (f"{block}_k", f"{block}_v") for block, name in tensors if name == "k"}

    def forward(self, row: SequenceState) -> SequenceState:
        """State `row` of a new sequence, with the learned tensors in place of its own, in their dtypes."""
        layers = list(row.layers)
        for key, (block, name) in self._recurrent.items():
            like, learned = layers[block].recurrent[name], self.tensors[key]
            learned = torch.view_as_complex(learned) if like.is_complex() else learned
            layers[block] = replace(layers[block], recurrent=layers[block].recurrent | {name: learned.to(like.dtype)})
        for block, (k, v) in self._keys_values.items():
            kv = layers[block].kv
            assert kv is not None
            kv = kv.append(quantize_kv(self.tensors[k], kv.kv_dtype), quantize_kv(self.tensors[v], kv.kv_dtype))
            layers[block] = replace(layers[block], kv=kv)
        return SequenceState(row.length, tuple(layers), row.identity)

    @property
    def nbytes(self) -> int:
        """Size of the learned state in bytes."""
        return sum(parameter.nbytes for parameter in self.parameters())


def attach_initial(model: Model, config: StateTuning) -> InitialState:
    """Puts a learned initial state on a model, which computes with it what it did before until it is trained.

    Learned keys and values begin as those of some tokens (words do better than noise: Li and Liang 2021, section 7.4):
    with them the model computes from the start as if it had read these. The state alone requires gradients from now
    on, besides what adapters there are. `InputError` if the model has no such state, or a learned state already.
    """
    with torch.no_grad():
        row = _unlearned(model)
    found = {
        (block, name): (torch.view_as_real(tensor) if tensor.is_complex() else tensor).to(_wide(tensor), copy=True)
        for block, layer in enumerate(row.layers)
        for name, tensor in layer.recurrent.items()
        if name in config.states
    }
    positions = config.positions
    if positions is None:
        positions = 0 if any(layer.recurrent for layer in row.layers) else POSITIONS
    if positions:
        found |= _keys_values(model, row, positions)
    if not found:
        there = sorted({name for layer in row.layers for name in layer.recurrent})
        raise InputError(
            f"this model has no state of the kind {', '.join(config.states)} to learn; it has {', '.join(there)}"
            if there
            else "this model has no recurrent state to learn; give positions for learned keys and values"
        )
    return put_on(model, InitialState(found))


def put_on(model: Model, initial: InitialState) -> InitialState:
    """Makes new sequences of `model` begin with `initial`."""
    if model.initial is not None:
        raise InputError("the model has a learned initial state already; detach it first")
    freeze(model)
    model.initial = initial.requires_grad_()
    return initial


def detach_initial(model: Model) -> None:
    """Takes the learned state off a model, whose new sequences begin as they did without it."""
    if model.initial is None:
        raise InputError("the model has no learned initial state")
    model.initial = None


def save_initial(model: Model, path: str | Path) -> None:
    """Writes the learned state of `model` to one safetensors file, whole or not at all."""
    if not isinstance(model.initial, InitialState):
        raise InputError("the model has no learned initial state")
    tensors = {f"blocks.{key.replace('_', '.', 1)}": t.detach() for key, t in model.initial.tensors.items()}
    with whole_file(Path(path)) as temporary:
        try:
            save_file(tensors, temporary, {"format": _FORMAT, **origin_of(model)})
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot write the initial state to {path}: {error}") from None


def read_initial(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a learned initial state, not compared with a model; `CheckpointError` for other files."""
    metadata, tensors = read_safetensors(path, CheckpointError, missing=f"there is no initial state {path}")
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is no learned initial state of this version (it should say {_FORMAT!r})")
    return metadata, tensors


def load_initial(model: Model, path: str | Path) -> InitialState:
    """Learned state from a file, for `model` but not put on it yet.

    `CheckpointError` if the file is damaged or for a model of another spec. Warns if it was made for other
    weights of the same model.
    """
    metadata, tensors = read_initial(path)
    require_origin(metadata, model, f"the initial state {path}")
    with torch.no_grad():
        row = _unlearned(model)
    wanted = {
        f"blocks.{block}.{name}": (block, name, torch.view_as_real(t) if t.is_complex() else t)
        for block, layer in enumerate(row.layers)
        for name, t in layer.recurrent.items()
    }
    positions = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith((".k", ".v"))}
    if positions:
        _require_no_window(row)
        wanted |= _wanted_keys_values(model, row, max(positions))
    if missing := next((name for name in wanted if name.endswith((".k", ".v")) and name not in tensors), None):
        raise CheckpointError(f"{path} is damaged: it has no {missing}")
    found = {}
    for name, tensor in tensors.items():
        if name not in wanted or tensor.shape != wanted[name][2].shape or not tensor.is_floating_point():
            raise CheckpointError(f"{path} has the tensor {name} {list(tensor.shape)}, which is no state of this model")
        block, kind, like = wanted[name]
        found[block, kind] = tensor.to(like.device, _wide(like))
    return InitialState(found)


def _wanted_keys_values(model: Model, row: SequenceState, positions: int) -> dict[str, tuple[int, str, Tensor]]:
    """Keys and values that a file holds of each block, by name, as empty tensors."""

    def like(heads: int, size: int) -> Tensor:
        return torch.empty(positions, heads, size, dtype=model.dtype, device=model.device)

    return {
        f"blocks.{block}.{name}": (block, name, like(layer.kv.spec.heads, size))
        for block, layer in enumerate(row.layers)
        if layer.kv is not None
        for name, size in zip(_KEYS_VALUES, (layer.kv.spec.k_dim, layer.kv.spec.v_dim), strict=True)
    }


@torch.no_grad()
def _keys_values(model: Model, row: SequenceState, positions: int) -> dict[tuple[int, str], Tensor]:
    """Keys and values of `positions` tokens after `row`, by block and kind; tokens evenly out of the vocabulary."""
    _require_no_window(row)
    ids_T = torch.linspace(0, model.spec.vocab - 1, positions, device=model.device).long()
    state = model.training_state(1)
    state.set_sequence(0, row)
    read = model(ids_T, Segments((positions,)), state, logits=None).state.sequences[0]
    found = {}
    for block, layer in enumerate(read.layers):
        if layer.kv is not None:
            held = layer.kv.tensors()
            for name in _KEYS_VALUES:
                found[block, name] = held[name][-positions:].to(_wide(held[name]), copy=True)
    return found


def _require_no_window(row: SequenceState) -> None:
    kinds = [layer.kv.spec for layer in row.layers if layer.kv is not None]
    if not kinds or any(isinstance(kind, WindowKV) for kind in kinds):
        raise InputError("learned keys and values are for models with attention, all of it without a window")


def _unlearned(model: Model) -> SequenceState:
    return model.fresh_sequence(Precision.of(model.dtype))


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype in (torch.float64, torch.complex128) else torch.float32
