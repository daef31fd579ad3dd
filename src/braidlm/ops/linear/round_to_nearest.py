"""Round-to-nearest quantization of a weight, a tile of rows at a time.

For int4 the scale of a group is not that of its largest number: a slightly smaller one loses
little there and gains on the 31 others. A few scales are tried, the best is fitted to the steps
that it gave (least squares), and what has the least squared error is kept.

Legend: N = rows (outputs of all experts), I = inputs, G = groups of a row.
"""

import torch
from torch import Tensor

from ...errors import InputError
from .quantized import GROUP, WEIGHT_FORMATS, QuantizedWeight, empty_quantized, nibbles, quantizable, tile_rows

# Largest numbers that scales can carry.
_INT8, _FP8, _HALF = 127.0, 448.0, 65504.0
# Scales tried for int4, as shares of the one that puts the largest number on step -8.
_SHARES = tuple(0.64 + 0.03 * i for i in range(19))
# Float32 temporaries of the search are about ten times a tile.
_TILE_BYTES = 4 << 20


def quantize_weight(weight: Tensor, weight_format: str, *, dtype: torch.dtype = torch.bfloat16) -> QuantizedWeight:
    """Quantizes a weight [..., O, I], each number to the nearest step; `dtype` is that of the activations.

    Raises `InputError` for an unknown format, a shape without whole groups, or numbers too large for the format.
    """
    if weight_format not in WEIGHT_FORMATS:
        raise InputError(f"a weight's format is {weight_format!r}, but must be one of {', '.join(WEIGHT_FORMATS)}")
    if not quantizable(weight.shape, weight_format):
        raise InputError(
            f"a weight of shape {list(weight.shape)} has no whole groups of {GROUP} inputs for {weight_format}"
        )
    made = empty_quantized(weight.shape, weight_format, dtype=dtype, device=weight.device)
    rows = weight.detach().reshape(-1, weight.shape[-1])
    data, scale = made.data.view(len(rows), -1), made.scale.view(len(rows), -1)
    size = tile_rows(rows.shape, 4, _TILE_BYTES)
    for begin in range(0, len(rows), size):
        tile = rows[begin : begin + size].float()
        _check(tile, weight_format)
        data[begin : begin + size], scale[begin : begin + size] = _ROUND[weight_format](tile)
    return made


def _check(tile: Tensor, weight_format: str) -> None:
    largest = float(tile.abs().max())
    limit = {"int8": _HALF * _INT8, "int4": _HALF * 8, "fp8": torch.finfo(torch.float32).max}[weight_format]
    if not largest < limit:  # nan too
        raise InputError(f"a weight has the number {largest}, which {weight_format} cannot hold")


def _int8(tile_NI: Tensor) -> tuple[Tensor, Tensor]:
    scale = int8_scales(tile_NI)
    q = (tile_NI.unflatten(-1, (-1, GROUP)) * _inverse(scale)).round_().clamp_(-_INT8, _INT8)
    return q.flatten(-2).to(torch.int8), scale


def int8_scales(x_NI: Tensor) -> Tensor:
    """Scales [N, G] float16 that put each group's largest number on the last step."""
    return (x_NI.unflatten(-1, (-1, GROUP)).abs().amax(-1) / _INT8).half()


def _fp8(tile_NI: Tensor) -> tuple[Tensor, Tensor]:
    scale = tile_NI.abs().amax(-1, keepdim=True) / _FP8
    return (tile_NI / scale.where(scale > 0, 1.0)).clamp_(-_FP8, _FP8).to(torch.float8_e4m3fn), scale


def _int4(tile_NI: Tensor) -> tuple[Tensor, Tensor]:
    scale = int4_scales(tile_NI)
    return nibbles(int4_steps(tile_NI, scale)), scale


def int4_steps(x_NI: Tensor, scale_NG: Tensor) -> Tensor:
    """The nearest steps, 0 to 15, for given scales: [N, I] uint8."""
    return _steps(x_NI.unflatten(-1, (-1, GROUP)), scale_NG).add_(8).flatten(-2).to(torch.uint8)


def int4_scales(x_NI: Tensor, weight_I: Tensor | None = None) -> Tensor:
    """Scales [N, G] float16 of least squared error, input i counted `weight_I[i]` times."""
    groups = x_NI.unflatten(-1, (-1, GROUP))
    counted = None if weight_I is None else weight_I.unflatten(-1, (-1, GROUP))
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))[..., 0]
    best = (largest / -8).half()
    error = _error(groups, best, counted)
    for share in _SHARES:
        for sign in (-1, 1):
            best, error = _better(groups, (largest * (sign * share / 8)).half(), counted, best, error)
    for _ in range(2):
        best, error = _better(groups, _fitted(groups, best, counted), counted, best, error)
    return best


def _steps(groups: Tensor, scale: Tensor) -> Tensor:
    return (groups * _inverse(scale)).round_().clamp_(-8, 7)


def _inverse(scale: Tensor) -> Tensor:
    """1 / scale with a last dimension of one; 0 where a group is 0, or too small for a scale."""
    wide = scale.float()
    return torch.where(wide == 0, 0.0, 1 / wide)[..., None]


def _error(groups: Tensor, scale: Tensor, counted: Tensor | None) -> Tensor:
    wrong = _steps(groups, scale).mul_(scale.float()[..., None]).sub_(groups).square_()
    return (wrong if counted is None else wrong.mul_(counted)).sum(-1)


def _better(
    groups: Tensor, scale: Tensor, counted: Tensor | None, best: Tensor, error: Tensor
) -> tuple[Tensor, Tensor]:
    found = _error(groups, scale, counted)
    better = found < error
    return torch.where(better, scale, best), torch.where(better, found, error)


def _fitted(groups: Tensor, scale: Tensor, counted: Tensor | None) -> Tensor:
    """The best scale for the steps that `scale` gives."""
    q = _steps(groups, scale)
    weighted = q if counted is None else q * counted
    norm = (weighted * q).sum(-1)
    return torch.where(norm > 0, (weighted * groups).sum(-1) / norm, scale.float()).half()


_ROUND = {"int8": _int8, "int4": _int4, "fp8": _fp8}
