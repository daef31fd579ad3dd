"""Quantization of weights while a checkpoint is read, and its description in braidlm's own files.

Tensor by tensor: a weight is read, quantized and dropped before the next, so that a model whose
original does not fit into memory can be loaded all the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, InputError
from ..model.assign import assign
from ..model.model import Model
from ..ops.linear.quantized import KINDS, WEIGHT_FORMATS, QuantizedWeight, empty_quantized, quantizable
from ..ops.linear.round_to_nearest import quantize_weight
from ..quant.policy import policy_of, quantized_weights
from ..system.dtypes import name_of
from .binding import Bound
from .gguf import GgufFile
from .gguf_quantized import is_quantized, keep

CHOICES = (*WEIGHT_FORMATS, "keep")
KEEP = "keep"

_DTYPES = ("bfloat16", "float32", "float64")


def check_choice(quantize: str | None) -> None:
    """Raises `InputError` unless `quantize` is a choice of `load`."""
    if quantize is not None and quantize not in CHOICES:
        raise InputError(f"quantize is {quantize!r}, but must be one of {', '.join(CHOICES)}")


class RoundToNearest:
    """Quantizer that rounds the weights of the usual policy to nearest (a `binding.WeightReader`)."""

    def __init__(self, model: Model, weight_format: str, dtype: torch.dtype) -> None:
        self._policy = policy_of(model, weight_format)
        self._dtype = dtype

    def read_entry(self, entry: Bound, shapes: Sequence[torch.Size]) -> list[QuantizedWeight] | None:
        """Keeps nothing: what a file has quantized is quantized anew."""
        return None

    def quantized(self, name: str, tensor: Tensor) -> QuantizedWeight | None:
        """Quantizes a weight of the policy to its format; None for any other."""
        return quantize_weight(tensor, self._policy[name], dtype=self._dtype) if name in self._policy else None


class KeepQuantized:
    """Quantizer that leaves the weights of a GGUF file as the file has them (a `binding.WeightReader`)."""

    def __init__(self, model: Model, file: GgufFile, dtype: torch.dtype) -> None:
        if not any(is_quantized(file, name) for name in file.names()):
            raise InputError(
                f"{file.path} holds no quantized tensor to keep; quantize can be {', '.join(WEIGHT_FORMATS)}"
            )
        self._file = file
        self._dtype = dtype
        self._names = set(policy_of(model, "int8"))

    def read_entry(self, entry: Bound, shapes: Sequence[torch.Size]) -> list[QuantizedWeight] | None:
        """Keeps the file's own numbers, if all of an entry's weights can be quantized."""
        if not self._names.issuperset(entry.target):
            return None
        return keep(self._file, entry.rule, entry.source, shapes, self._dtype)

    def quantized(self, name: str, tensor: Tensor) -> QuantizedWeight | None:
        """Quantizes nothing: what a file has plain stays plain."""
        return None


def describe_quantized(model: Model) -> dict[str, Any] | None:
    """Description of quantization in braidlm's own files: activations' dtype, each weight's kind; None if none is."""
    quantized = quantized_weights(model)
    if not quantized:
        return None
    return {
        "dtype": name_of(model.dtype),
        "weights": {name: weight.kind for name, weight in sorted(quantized.items())},
    }


def read_quantized(metadata: Any, model: Model, where: str) -> dict[str, str]:
    """Reads the kinds of quantized weights from `about`, which stands in `where`, checked against a model's shapes."""
    weights = metadata.get("weights") if isinstance(metadata, dict) else None
    if not isinstance(weights, dict) or metadata.get("dtype") not in _DTYPES:
        raise CheckpointError(
            f"{where} has a 'quantization' that is no object with a 'dtype' ({', '.join(_DTYPES)}) and 'weights'"
        )
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    for name, kind in weights.items():
        if name not in shapes or kind not in KINDS or not quantizable(shapes[name], kind):
            raise CheckpointError(f"{where} says that {name} is quantized as {kind!r}, which this model cannot have")
    return weights


def prepare(model: Model, kinds: Mapping[str, str], dtype: torch.dtype) -> None:
    """Replaces weights of a skeleton by quantized ones without memory, for a file's numbers to fill."""
    for name, kind in kinds.items():
        assign(model, name, empty_quantized(model.get_parameter(name).shape, kind, device="meta", dtype=dtype))


def require_plain(model: Model, what: str) -> None:
    """Raises `InputError` if a model has quantized weights, which `what` cannot hold."""
    if quantized_weights(model):
        raise InputError(f"the weights of this model are quantized, which {what} cannot hold; save it as braidlm")
