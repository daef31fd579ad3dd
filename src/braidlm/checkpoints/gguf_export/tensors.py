"""Tensors of a GGUF file from the weights of a model: plain ones in the file's dtypes, quantized ones as they are.

Legend: N = rows (outputs of all experts) of a rule's weights, stacked.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor

from ...errors import InputError
from ...families import Alias, NameRule, Rule
from ...families.base import Gguf
from ...model.model import Model
from ...ops.linear.quantized import QuantizedWeight
from ...ops.linear.round_to_nearest import quantize_weight
from ...spec import ModelSpec
from ..binding import Bound, bind
from ..gguf.blocks import join_blocks, storage_of
from ..rows import row_places, stack_rows, take_rows

PLAIN = {
    torch.float32: GGMLQuantizationType.F32,
    torch.bfloat16: GGMLQuantizationType.BF16,
    torch.float16: GGMLQuantizationType.F16,
}

# Quantized storage types that quantized weights have bit for bit.
EXACT = ("Q8_0", "Q4_0", "Q4_1")

# Matrices by shape that are not multiplied as matrices, or that choose between experts.
_FLOAT32 = ("ssm_conv1d.weight", "ssm_norm.weight", "ffn_gate_inp.weight")

Weight = Tensor | QuantizedWeight


class GgufTensor(NamedTuple):
    """A tensor to write: its shape (rows first), its storage type, and a function that makes its bytes."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    make: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the file."""
        block, size = GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size


def gguf_tensors(model: Model, spec: ModelSpec, layout: Gguf, dtype: torch.dtype, *, plain: bool) -> list[GgufTensor]:
    """Tensors of a model's GGUF file; `spec` is the model's in the file's terms.

    Matrices that are not quantized are in `dtype`, and with `plain` the quantized ones too. Raises `InputError` for
    weights in a form that these files do not have.
    """
    weights = _weights(model)
    rules, meta = layout.names(spec), _meta(weights)
    found: list[GgufTensor] = []
    for entry in bind(rules, {name: weight.shape for name, weight in weights.items()}, len(spec.blocks)):
        targets = [weights[name] for name in entry.target]
        shapes = [tensor.shape for tensor in entry.rule.write([meta[name] for name in entry.target])]
        quantized = None if plain else _quantized(entry, targets, shapes)
        found += _plain(entry, targets, shapes, dtype) if quantized is None else quantized
    found += _repeated(rules, weights, dtype)
    extra = layout.tensors(spec).items()
    return [*found, *(_tensor(name, tensor.shape, dtype, tensor.clone) for name, tensor in extra)]


def _weights(model: Model) -> dict[str, Weight]:
    """Parameters, and quantized weights whole."""
    found: dict[str, Weight] = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return found | {name: module for name, module in model.named_modules() if isinstance(module, QuantizedWeight)}


def _meta(weights: Mapping[str, Weight]) -> dict[str, Tensor]:
    return {name: torch.empty(weight.shape, device="meta") for name, weight in weights.items()}


def _quantized(entry: Bound, targets: Sequence[Weight], shapes: Sequence[torch.Size]) -> list[GgufTensor] | None:
    """An entry's tensors made of whole rows of quantized weights; None if they are not."""
    quantized = [weight for weight in targets if isinstance(weight, QuantizedWeight)]
    if len(quantized) < len(targets):
        return None
    for name, weight in zip(entry.target, quantized):
        if storage_of(weight) is None:
            raise InputError(
                f"the weight {name} is in {weight.weight_format}, which GGUF files do not have; "
                "--dtype bfloat16 writes it in full, --quantize int8 and int4 are forms that they have"
            )
    back = Rule(entry.target, entry.source, lambda tensors, _: entry.rule.write(tensors), lambda parts: parts)
    places = row_places(back, [weight.shape for weight in quantized], shapes)
    if places is None:
        return None
    return [
        GgufTensor(name, tuple(shape), _kind(quantized), partial(_joined, quantized, rows_N, shape))
        for name, shape, rows_N in zip(entry.source, shapes, places, strict=True)
    ]


def _kind(quantized: Sequence[QuantizedWeight]) -> GGMLQuantizationType:
    """The storage type of rows of these weights; int8 where they are of several kinds."""
    kinds = {storage_of(weight) for weight in quantized}
    return GGMLQuantizationType["Q8_0" if len(kinds) > 1 else str(kinds.pop())]


def _joined(quantized: Sequence[QuantizedWeight], rows_N: Tensor, shape: torch.Size) -> Tensor:
    if len({weight.kind for weight in quantized}) > 1:
        quantized = [
            quantize_weight(weight.dequantize(torch.float32), "int8", dtype=weight.dtype) for weight in quantized
        ]
    return join_blocks(take_rows(stack_rows([_flat(weight) for weight in quantized]), rows_N, shape))


def _flat(weight: QuantizedWeight) -> QuantizedWeight:
    """The same weight as [N, I]."""
    outer = weight.data.dim() - 2
    if outer == 0:
        return weight
    parts = [None if part is None else part.flatten(0, outer) for part in (weight.data, weight.scale, weight.low)]
    data, scale, low = parts
    assert data is not None and scale is not None
    return QuantizedWeight(weight.weight_format, data, scale, low, dtype=weight.dtype)


def _plain(
    entry: Bound, targets: Sequence[Weight], shapes: Sequence[torch.Size], dtype: torch.dtype
) -> Iterator[GgufTensor]:
    for index, (name, shape) in enumerate(zip(entry.source, shapes, strict=True)):
        yield _tensor(name, shape, dtype, partial(_written, entry, targets, index))


def _written(entry: Bound, targets: Sequence[Weight], index: int) -> Tensor:
    return entry.rule.write([_full(weight) for weight in targets])[index]


def _full(weight: Weight) -> Tensor:
    return weight.dequantize(torch.float32) if isinstance(weight, QuantizedWeight) else weight


def _repeated(rules: Sequence[NameRule], weights: Mapping[str, Weight], dtype: torch.dtype) -> Iterator[GgufTensor]:
    for rule in rules:
        if isinstance(rule, Alias) and rule.written:
            weight = weights[rule.target]
            yield _tensor(rule.source, weight.shape, dtype, partial(_full, weight))


def _tensor(name: str, shape: Sequence[int], dtype: torch.dtype, make: Callable[[], Tensor]) -> GgufTensor:
    matrix = name.endswith(".weight") and len(shape) > 1 and not name.endswith(_FLOAT32)
    wanted = dtype if matrix else torch.float32
    return GgufTensor(name, tuple(shape), PLAIN[wanted], lambda: _cast(name, make(), wanted))


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    made = tensor.to("cpu", dtype)
    if dtype == torch.float16 and bool(made.isinf().any()) and not bool(tensor.isinf().any()):
        raise InputError(f"tensor {name} has numbers that float16 cannot hold; write it in bfloat16 or float32")
    return made
