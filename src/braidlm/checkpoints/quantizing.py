"""Quantization while a checkpoint is read, and what our own files say about it.

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
from ..ops.linear.quantized import FORMS, KINDS, QuantizedWeight, empty_quantized, quantizable
from ..ops.linear.round_to_nearest import quantize_weight
from ..quant.policy import policy_of, quantized_weights
from .binding import Bound
from .gguf import GgufFile
from .gguf_quantized import is_quantized, keep

CHOICES = (*FORMS, "keep")
KEEP = "keep"

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


def check_choice(quantize: str | None) -> None:
    """`InputError` unless `load` can quantize so."""
    if quantize is not None and quantize not in CHOICES:
        raise InputError(f"quantize is {quantize!r}, but must be one of {', '.join(CHOICES)}")


class RoundToNearest:
    """Packs the weights of a policy to the nearest steps as they are read. See `binding.WeightQuantizer`."""

    def __init__(self, model: Model, form: str, dtype: torch.dtype) -> None:
        self._policy = policy_of(model, form)
        self._dtype = dtype

    def kept(self, entry: Bound, shapes: Sequence[torch.Size]) -> list[QuantizedWeight] | None:
        """Nothing is kept: what a file has quantized is quantized anew."""
        return None

    def quantized(self, name: str, tensor: Tensor) -> QuantizedWeight | None:
        """In the policy's form."""
        return quantize_weight(tensor, self._policy[name], dtype=self._dtype) if name in self._policy else None


class KeepQuantized:
    """Leaves the weights of a GGUF file as it has them. See `binding.WeightQuantizer`."""

    def __init__(self, model: Model, file: GgufFile, dtype: torch.dtype) -> None:
        if not any(is_quantized(file, name) for name in file.names()):
            raise InputError(f"{file.path} holds no quantized tensor to keep; quantize can be {', '.join(FORMS)}")
        self._file = file
        self._dtype = dtype
        self._names = set(policy_of(model, "int8"))

    def kept(self, entry: Bound, shapes: Sequence[torch.Size]) -> list[QuantizedWeight] | None:
        """The file's own numbers, if all of an entry's weights can be quantized."""
        if not self._names.issuperset(entry.target):
            return None
        return keep(self._file, entry.rule, entry.source, shapes, self._dtype)

    def quantized(self, name: str, tensor: Tensor) -> QuantizedWeight | None:
        """What a file has plain stays plain."""
        return None


def describe_quantized(model: Model) -> dict[str, Any] | None:
    """What our own files say: the dtype of the activations and each quantized weight's kind; None if none is quantized."""
    quantized = quantized_weights(model)
    if not quantized:
        return None
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "weights": {name: weight.kind for name, weight in sorted(quantized.items())},
    }


def read_quantized(about: Any, model: Model, where: str) -> dict[str, str]:
    """The kinds of the quantized weights in what `where` says, checked against a model's shapes."""
    weights = about.get("weights") if isinstance(about, dict) else None
    if not isinstance(weights, dict) or about.get("dtype") not in _DTYPES:
        raise CheckpointError(
            f"{where} has a 'quantization' that is no object with a 'dtype' ({', '.join(_DTYPES)}) and 'weights'"
        )
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    for name, kind in weights.items():
        if name not in shapes or kind not in KINDS or not quantizable(shapes[name], kind):
            raise CheckpointError(f"{where} says that {name} is quantized as {kind!r}, which this model cannot have")
    return weights


def prepare(model: Model, kinds: Mapping[str, str], dtype: torch.dtype) -> None:
    """Gives a skeleton quantized weights without memory, for a file's numbers to fill."""
    for name, kind in kinds.items():
        assign(model, name, empty_quantized(model.get_parameter(name).shape, kind, device="meta", dtype=dtype))


def require_plain(model: Model, what: str) -> None:
    """`InputError` if a model has quantized weights, which `what` cannot hold."""
    if quantized_weights(model):
        raise InputError(f"the weights of this model are quantized, which {what} cannot hold; save it as braidlm")
