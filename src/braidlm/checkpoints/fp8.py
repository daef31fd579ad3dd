"""Weights in fp8 with scales: dequantized one tensor at a time, or kept with one scale a row.

A weight w = scale q, q an fp8 number. The scale is one number, one a row, or one a block (128 by 128, say; the last
blocks of a matrix may be smaller); of experts in one tensor each has its own. A scale stands beside its weight under
one of several names. Scales of activations and of keys and values are left out: braidlm quantizes weights only.

Legend: O = outputs (rows), I = inputs, X = experts.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import CheckpointError, named, warn_loading
from ..model.model import Model
from ..ops.linear.quantized import QuantizedWeight
from ..ops.linear.round_to_nearest import quantize_weight
from ..quant.policy import policy_of
from .binding import Bound, Source
from .directory import largest_dtype
from .fp8_config import Block, Fp8
from .names import TextTensors
from .rows import row_places, stack_rows, take_rows

_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_KEPT = torch.float8_e4m3fn
_SCALES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e8m0fnu)

# What the scale of "x.weight" is called: its own name with an end, or a name beside it.
_ENDS = ("_scale", "_scale_inv")
_BESIDE = ("scale", "qscale_weight")
# Scales of activations, and of queries, keys, values and probabilities in attention.
_OF_ACTIVATIONS = re.compile(
    r"(.+\.)?((input|activation|act|output|q|k|v|kv|p|prob)_scale(_inv|_ub)?|qscale_act|weight_scale_ub)"
)


class _Scaled(NamedTuple):
    """A weight in fp8: numbers [..., O, I] and their scale."""

    q: Tensor
    scale: Tensor


class Fp8Tensors:
    """Source of the tensors of another `source`, those in fp8 dequantized with their scales.

    The scales are no tensors of their own.
    """

    def __init__(self, source: Source, metadata: Fp8 | None) -> None:
        self._source, self._block = source, metadata.block if metadata else None
        names = source.names()
        self._fp8 = {name for name in names if source.get(name).dtype in _FP8}
        self._scale_of = {name: scale for name in self._fp8 if (scale := _scale_name(name, names)) is not None}
        self._names = names - set(self._scale_of.values())
        if self._scale_of or metadata is not None:
            self._leave_out({name for name in self._names if _OF_ACTIVATIONS.fullmatch(name)})

    def _leave_out(self, scales: set[str]) -> None:
        self._names -= scales
        if scales:
            kinds = Counter(name.rpartition(".")[2] for name in sorted(scales))
            shown = named([f"{kind} ({count})" for kind, count in kinds.items()])
            warn_loading(f"left out the scales of activations, which are not quantized here: {shown}")

    def names(self) -> set[str]:
        """Names of all tensors; scales are none."""
        return set(self._names)

    def get(self, name: str) -> Tensor:
        """One tensor; float32 where it is stored in fp8."""
        found = self._scaled(name)
        return self._source.get(name) if found is None else _dequantized(found, self._block, name)

    def dtype(self, names: set[str]) -> torch.dtype:
        """The dtype of the largest of these tensors that is not in fp8."""
        if not names:
            raise CheckpointError("the checkpoint holds no tensor")
        return largest_dtype(self._source, names - self._fp8) or torch.bfloat16

    def any_fp8(self) -> bool:
        """Whether there are weights in fp8 with scales."""
        return bool(self._scale_of)

    def is_fp8(self, name: str) -> bool:
        """Whether a tensor is stored in fp8."""
        return name in self._fp8

    def row_scaled(self, name: str) -> _Scaled | None:
        """A weight in fp8 with float32 scales [..., O]; None if it is plain, or cannot be kept so."""
        found = self._scaled(name)
        if found is None or found.q.dtype != _KEPT or found.q.dim() < 2:
            return None
        scale = _row_scale(found)
        return None if scale is None else _Scaled(found.q, scale)

    def _scaled(self, name: str) -> _Scaled | None:
        if name not in self._fp8:
            return None
        if name not in self._scale_of:
            raise CheckpointError(
                f"tensor {name} is stored in fp8, but has no scale; {name}_scale or {name}_scale_inv must be beside it"
            )
        scale = self._source.get(self._scale_of[name])
        if scale.dtype not in _SCALES:
            raise CheckpointError(f"tensor {self._scale_of[name]} is a scale stored as {scale.dtype}, not as floats")
        return _Scaled(self._source.get(name), scale.float())


def _scale_name(name: str, names: set[str]) -> str | None:
    stem, _, leaf = name.rpartition(".")
    beside = [f"{stem}.{end}" for end in _BESIDE] if leaf == "weight" else []
    return next((scale for scale in (*(name + end for end in _ENDS), *beside) if scale in names), None)


def _row_scale(found: _Scaled) -> Tensor | None:
    """The scale as [..., O]; None if it has another layout."""
    *outer, outputs, _ = found.q.shape
    shape, rows = list(found.scale.shape), [*outer, outputs]
    if found.scale.numel() == 1:
        return found.scale.reshape(()).expand(rows)
    if shape in (rows, [*rows, 1]):
        return found.scale.reshape(rows)
    if outer and shape in (outer, [*outer, 1], [*outer, 1, 1]):  # one an expert
        return found.scale.reshape([*outer, 1]).expand(rows)
    return None


def _dequantized(found: _Scaled, block: Block | None, name: str) -> Tensor:
    """A weight dequantized to float32: numbers times scale."""
    values = _floats(found.q)
    if found.scale.numel() == 1:
        return values.mul_(found.scale.reshape(()))
    rows = _row_scale(found) if values.dim() > 1 else None
    if rows is not None:
        return values.mul_(rows[..., None])
    grid = None if block is None or values.dim() < 2 else _grid(values.shape, block)
    if block is None or grid is None or list(found.scale.shape) != grid:
        needs = "" if block is None else f", and blocks of {block[0]} x {block[1]} would need {grid}"
        raise CheckpointError(
            f"the scale of tensor {name} has the shape {list(found.scale.shape)}, which is neither one number nor one "
            f"for each row of {list(values.shape)}{needs or ', and the config names no size of blocks'}"
        )
    # A row of blocks at a time, so that the scales are never spread out to the size of the weight.
    for i, rows_of_blocks in enumerate(values.split(block[0], -2)):
        scale = found.scale[..., i, :].repeat_interleave(block[1], -1)[..., : values.shape[-1]]
        rows_of_blocks.mul_(scale[..., None, :])
    return values


def _floats(q: Tensor) -> Tensor:
    """Float32 values of fp8 numbers, from a table of all 256: torch converts several times more slowly."""
    table = torch.arange(256, dtype=torch.uint8).view(q.dtype).float()
    return table.index_select(0, q.view(torch.uint8).flatten().int()).view(q.shape)


def _grid(shape: torch.Size, block: Block) -> list[int]:
    *outer, outputs, inputs = shape
    return [*outer, math.ceil(outputs / block[0]), math.ceil(inputs / block[1])]


class KeepFp8:
    """Quantizer that leaves weights in fp8 as a file has them, and plain ones plain (a `binding.WeightReader`).

    A quantized weight has one scale a row. What has another layout (blocks) is dequantized, or rounded anew if `anew`;
    `tell` warns of both.
    """

    def __init__(self, model: Model, text: TextTensors, stored: Fp8Tensors, dtype: torch.dtype, *, anew: bool) -> None:
        self._text, self._stored, self._dtype, self._anew = text, stored, dtype, anew
        self._names = set(policy_of(model, "fp8"))
        self._not_kept: dict[str, str] = {}  # the model's names to the file's

    def read_entry(self, entry: Bound, shapes: Sequence[torch.Size]) -> list[QuantizedWeight] | None:
        """Keeps the file's own numbers, if all of an entry's weights can be quantized, and their rows stay whole."""
        stored = [self._text.stored_name(name) for name in entry.source]
        if not self._names.issuperset(entry.target) or not all(self._stored.is_fp8(name) for name in stored):
            return None
        found = [scaled for name in stored if (scaled := self._stored.row_scaled(name)) is not None]
        whole = len(found) == len(stored)
        places = row_places(entry.rule, [scaled.q.shape for scaled in found], shapes) if whole else None
        if places is None:
            self._not_kept |= dict.fromkeys(entry.target, stored[0])
            return None
        rows = stack_rows([self._quantized_rows(scaled) for scaled in found])
        return [take_rows(rows, rows_N, shape) for rows_N, shape in zip(places, shapes, strict=True)]

    def _quantized_rows(self, scaled: _Scaled) -> QuantizedWeight:
        """A weight in fp8 as [N, I], all rows."""
        scale_N = scaled.scale.flatten().contiguous()
        return QuantizedWeight("fp8", scaled.q.flatten(0, -2), scale_N, dtype=self._dtype)

    def quantized(self, name: str, tensor: Tensor) -> QuantizedWeight | None:
        """Quantizes a weight that could not be kept anew, if asked for; what a file has plain stays plain."""
        return quantize_weight(tensor, "fp8", dtype=self._dtype) if self._anew and name in self._not_kept else None

    def tell(self) -> None:
        """Warns of weights in fp8 that could not be kept as they are."""
        if self._not_kept:
            names = sorted(set(self._not_kept.values()))
            done = "rounded anew to fp8 with one scale a row" if self._anew else f"dequantized to {self._dtype}"
            warn_loading(
                f"{len(names)} weights in fp8 have no scale for each row that could be kept, and were {done}: "
                f"{named(names, 3)}"
            )
