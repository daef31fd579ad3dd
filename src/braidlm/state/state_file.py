"""State files: sequence states in one safetensors file, written whole or not at all, and read if unchanged.

The header names the model that computed them. Several of them may be snapshots of one sequence, the last one of its
end. Its KV cache is then written once: the others hold the first part of it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError, StateError
from ..spec.state import FullKV
from ..system.digest import digest
from ..system.files import is_there, parse_json, whole_file
from ..system.safetensors_file import opened_safetensors
from .kv import KeyValues
from .sequence import Identity, LayerState, Precision, SequenceState

# Digest of the header's texts alone, which is checked where nothing else is read.
_OWN_DIGEST = "header_digest"


@dataclass(frozen=True)
class Owner:
    """Owner of sequence states: the model's identity, its precision, and `initial`, a state that has seen nothing."""

    identity: Identity
    precision: Precision
    initial: SequenceState
    device: torch.device


class Contents(NamedTuple):
    """Contents of a state file: the header's texts, the sequence states, and the tensors beside them."""

    metadata: dict[str, str]
    sequences: list[SequenceState]
    more: dict[str, Tensor]


def write_states(
    path: str | Path,
    file_format: str,
    owner: Owner,
    states: Sequence[SequenceState],
    *,
    metadata: Mapping[str, str] | None = None,
    more: Mapping[str, Tensor] | None = None,
    one_sequence: bool = False,
    place: Callable[[Path, Path], object] = os.replace,
) -> None:
    """Writes sequence states, the texts of `metadata` and the tensors of `more` to a state file.

    `file_format` names the kind and version of the file. `one_sequence`: the states are snapshots of one sequence, the
    shortest first.
    `place` gives the file its name (see `files.whole_file`).
    Raises `StateError` for states of another owner.
    """
    for state in states:
        if state.identity is not None:
            state.identity.require(owner.identity, f"a state to be saved to {path}")
    tensors = dict(more or {}) | _tensors_of(states, one_sequence)
    header = dict(metadata or {}) | {
        "format": file_format,
        "fingerprint": owner.identity.fingerprint,
        "label": owner.identity.label,
        "dtype": owner.identity.dtype,
        "kv_dtype": owner.identity.kv_dtype,
        "lengths": json.dumps([state.length for state in states]),
    }
    header[_OWN_DIGEST] = _own_digest(header)
    header["digest"] = digest_of(header, tensors)
    path = Path(path)
    with whole_file(path, place) as temporary:
        try:
            save_file(tensors, temporary, header)
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot save the state to {path}: {error}") from None


def read_states(
    path: str | Path, file_format: str, owner: Owner, *, beside: Collection[str] = (), one_sequence: bool = False
) -> Contents:
    """Reads a state file; `StateError` unless it is whole and belongs to `owner`'s weights and precision.

    `beside` are the names of the tensors that stand beside the states.
    """
    with _opened(path) as file:
        metadata = _checked(file.metadata() or {}, path, file_format)
        _require_owner(metadata, path, owner)
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
    _require_whole(metadata.get("digest") == digest_of(metadata, tensors), path)
    try:
        more = {name: tensors.pop(name) for name in beside}
        return Contents(metadata, _states_of(owner, _lengths(metadata["lengths"]), tensors, one_sequence), more)
    except (KeyError, ValueError, RuntimeError) as error:
        raise StateError(f"{path} is damaged: {error}") from None


def read_header(path: str | Path, file_format: str) -> dict[str, str]:
    """Reads the header's texts alone, as they were saved."""
    with _opened(path) as file:
        metadata = _checked(file.metadata() or {}, path, file_format)
        _require_whole(metadata.get(_OWN_DIGEST) == _own_digest(metadata), path)
    return metadata


def digest_of(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Digest of a state file: of its header, whatever digest that names, and of all of its tensors."""
    text = json.dumps({key: value for key, value in metadata.items() if key != "digest"}, sort_keys=True)
    return digest(text, sorted(tensors.items()))


def _own_digest(metadata: Mapping[str, str]) -> str:
    texts = {key: value for key, value in metadata.items() if key not in (_OWN_DIGEST, "digest")}
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def _require_whole(holds: bool, path: str | Path) -> None:
    if not holds:
        raise StateError(f"{path} is damaged: its contents are not those that were saved")


def _opened(path: str | Path) -> AbstractContextManager[Any]:
    """Context of an open state file; what goes wrong with it meanwhile ends in one sentence."""
    missing = f"{path} is no state file: it is a link that leads nowhere" if is_there(path) else None
    missing = missing or f"there is no state file {path}"
    return opened_safetensors(path, StateError, missing=missing, kind="state file")


def _checked(metadata: dict[str, str], path: str | Path, file_format: str) -> dict[str, str]:
    if metadata.get("format") != file_format:
        raise StateError(f"{path} is no file of this kind and version (it should say {file_format!r})")
    return metadata


def _require_owner(metadata: Mapping[str, str], path: str | Path, owner: Owner) -> None:
    told = (" ".join(metadata.get(name, "").split()) for name in ("fingerprint", "dtype", "kv_dtype", "label"))
    Identity(*told).require(owner.identity, str(path))


def _tensors_of(states: Sequence[SequenceState], one_sequence: bool) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for r, state in enumerate(states):
        for i, layer in enumerate(state.layers):
            repeated = one_sequence and r < len(states) - 1 and _grows(layer.kv)
            held = layer.recurrent | (layer.kv.tensors() if layer.kv and not repeated else {})
            for name, tensor in held.items():
                plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
                # States may share a tensor; the file format wants each to have its own.
                tensors[f"{r}.{i}.{name}"] = plain.clone(memory_format=torch.contiguous_format)
    return tensors


def _states_of(owner: Owner, lengths: list[int], tensors: dict[str, Tensor], one_sequence: bool) -> list[SequenceState]:
    """Sequence states from the last to the first, since that one holds the KV cache of all of them."""
    if one_sequence and lengths != sorted(lengths):
        raise ValueError(f"snapshots of one sequence have the lengths {lengths}")
    states: list[SequenceState] = []
    for r, length in reversed(list(enumerate(lengths))):
        layers = []
        for i, like in enumerate(owner.initial.layers):
            prefix = f"{r}.{i}."
            recurrent = {name: _like(tensors.pop(prefix + name), t, name) for name, t in like.recurrent.items()}
            kv, seen = like.kv, like.kv.length - owner.initial.length + length if like.kv else 0
            if one_sequence and states and _grows(kv):
                last = states[0].layers[i].kv
                kv = last and last.first(seen)
            elif kv is not None:
                mine = [name for name in tensors if name.startswith(prefix)]
                held = {name.removeprefix(prefix): tensors.pop(name).to(owner.device) for name in mine}
                kv = KeyValues(kv.spec, kv.kv_dtype).from_tensors(held, seen)
            layers.append(LayerState(recurrent, kv))
        states.append(SequenceState(length, tuple(layers), owner.initial.identity))
    if tensors:
        raise ValueError(f"it has the unknown tensor {min(tensors)}")
    return states[::-1]


def _grows(kv: KeyValues | None) -> bool:
    return kv is not None and isinstance(kv.spec, FullKV)


def _lengths(text: str) -> list[int]:
    lengths = parse_json(text)
    if not isinstance(lengths, list) or not all(type(n) is int and 0 <= n < 2**40 for n in lengths):
        raise ValueError(f"lengths are {text[:80]}")
    return lengths


def _like(stored: Tensor, wanted: Tensor, name: str) -> Tensor:
    tensor: Any = torch.view_as_complex(stored) if wanted.is_complex() else stored
    if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
        raise ValueError(f"state {name} is {tensor.dtype} {tuple(tensor.shape)}")
    return tensor.to(wanted.device)
