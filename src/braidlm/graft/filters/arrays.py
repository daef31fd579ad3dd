"""Filters as arrays in files, .npy or .safetensors, and modes written to a file.

A file of modes has for each layer `NAME.poles` and `NAME.residues`, [F, M, 2] in float32 (real and imaginary parts),
and `NAME.direct` [F], which is added to the first tap.

Legend: F = filters, L = positions, M = modes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ...errors import InputError, one_line
from ...system.files import regular_file, whole_file
from ...system.safetensors_file import read_safetensors
from ...train.modal import Modes
from . import published

FORMAT = "braidlm-modes-1"
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def read_arrays(path: Path, shift: float | None, length: int | None) -> tuple[str, dict[str, Tensor]]:
    """What a file holds ("explicit filters", "implicit filters"), and the filters of each of its layers, [F, L]."""
    tensors = _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
    layers = published.layers_in(tensors)
    if layers:
        if shift is None:
            raise InputError(
                f"{path} holds implicit filters, but not the shift of their windows; give --window-shift as it is in "
                "the code that they were trained with: 0 in safari, 0.05 in the standalone file of HyenaDNA"
            )
        return "implicit filters", {
            name: published.evaluate(name, parts, shift, length) for name, parts in layers.items()
        }
    if shift is not None:
        raise InputError(f"{path} holds no implicit filters, which alone have windows; leave --window-shift out")
    return "explicit filters", {name: _explicit(path, name, tensor, length) for name, tensor in tensors.items()}


def _explicit(path: Path, name: str, tensor: Tensor, length: int | None) -> Tensor:
    where = f"{path}: {name}"
    if tensor.dtype not in _FLOATS:
        raise InputError(f"{where} is of {tensor.dtype}, but filters are real numbers, in float64 or less")
    while tensor.dim() > 2 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.dim() != 2:
        raise InputError(f"{where} has the shape {list(tensor.shape)}, but filters are [channels, length]")
    if length is not None and length > tensor.shape[1]:
        raise InputError(f"length is {length}, but {where} has {tensor.shape[1]} positions; give at most that many")
    return tensor[:, :length]


def _read_npy(path: Path) -> dict[str, Tensor]:
    try:
        with regular_file(path).open("rb") as file:
            found = np.load(file, allow_pickle=False)
        return {path.stem: torch.from_numpy(np.ascontiguousarray(found.astype(found.dtype.newbyteorder("="))))}
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, TypeError, EOFError, MemoryError) as error:
        raise InputError(f"{path} is damaged or no array of numbers in .npy: {one_line(error)}") from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    _, tensors = read_safetensors(path, InputError, missing=f"{path} does not exist")
    if not tensors:
        raise InputError(f"{path} holds no tensors, but must hold filters [channels, length]")
    return tensors


def write_modes(path: Path, modes: Mapping[str, Modes], facts: Mapping[str, Any]) -> None:
    """Writes modes of layers with what is known of them, in its metadata, as JSON."""
    tensors = {}
    for name, found in modes.items():
        tensors[f"{name}.poles"] = torch.view_as_real(found.poles_FM).contiguous()
        tensors[f"{name}.residues"] = torch.view_as_real(found.residues_FM).contiguous()
        tensors[f"{name}.direct"] = found.direct_F
    with whole_file(path) as place:
        save_file(tensors, place, {"format": FORMAT, "report": json.dumps(facts)})
