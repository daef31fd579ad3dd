"""Implicit filters as published with Hyena (Poli et al. 2023): a network of sines of the position, and a window.

A layer's tensors are those of the module `filter_fn`: `implicit_filter.0.weight`, `implicit_filter.1.freq` and so on,
`modulation.deltas`, and the positions themselves, `pos_emb.z` [1, L, E] and `pos_emb.t` [1, L, 1].

Legend: L = positions, E = features of a position, H = hidden units, F = filters.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import CheckpointError, InputError

_PART = re.compile(r"(?:(?P<layer>.+)\.)?(?P<part>(?:implicit_filter|pos_emb|modulation)\..+)")
_LINEAR = re.compile(r"implicit_filter\.(\d+)\.weight")


def layers_in(names: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors of implicit filters by layer, each by its name in the layer; empty where a file has none."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in names.items():
        match = _PART.fullmatch(name)
        if match is not None:
            found.setdefault(match["layer"] or "filters", {})[match["part"]] = tensor.double()
    return {layer: parts for layer, parts in found.items() if any(map(_LINEAR.fullmatch, parts))}


def evaluate(layer: str, parts: Mapping[str, Tensor], shift: float, length: int | None) -> Tensor:
    """Filters [F, L] in float64 at the first `length` of the positions that the layer was made for (None: all).

    The window is exp(-t |deltas|) + shift. `CheckpointError` names what is missing or does not fit.
    """
    z_LE, t_L = _tensor(layer, parts, "pos_emb.z", 3)[0], _tensor(layer, parts, "pos_emb.t", 3)[0, :, 0]
    if length is not None and length > len(z_LE):
        raise InputError(f"length is {length}, but {layer} has {len(z_LE)} positions; give at most that many")
    x, t_L = z_LE[:length], t_L[:length]
    numbers = sorted(int(match[1]) for name in parts if (match := _LINEAR.fullmatch(name)))
    try:
        freq_H = _tensor(layer, parts, "implicit_filter.1.freq", 2)
        for number in numbers[:-1]:
            x = x @ _tensor(layer, parts, f"implicit_filter.{number}.weight", 2).t()
            x = x + _tensor(layer, parts, f"implicit_filter.{number}.bias", 1)
            freq_H = parts.get(f"implicit_filter.{number + 1}.freq", freq_H)  # one module: a file may hold it once
            x = torch.sin(freq_H * x)
        x = x @ _tensor(layer, parts, f"implicit_filter.{numbers[-1]}.weight", 2).t()
        deltas_F = _tensor(layer, parts, "modulation.deltas", 3)[0, 0]
        window_LF = (-t_L[:, None] * deltas_F.abs()).exp() + shift
        return (x * window_LF).t()
    except RuntimeError:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(parts.items()))
        raise CheckpointError(f"{layer} has tensors whose shapes do not fit each other: {shapes}") from None


def _tensor(layer: str, parts: Mapping[str, Tensor], name: str, dimensions: int) -> Tensor:
    found = parts.get(name)
    if found is None:
        raise CheckpointError(f"{layer} has no {name}, which implicit filters of Hyena have; it has {', '.join(parts)}")
    if found.dim() != dimensions or not found.numel():
        raise CheckpointError(
            f"{layer}.{name} has the shape {list(found.shape)}, but must have {dimensions} dimensions, none empty"
        )
    return found
