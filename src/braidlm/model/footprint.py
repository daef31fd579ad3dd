"""Footprint of a model from its spec alone: parameters, dtypes, bytes, FLOPs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import spec as specs
from ..errors import SpecError
from ..ops.linear.quantized import quantized_bytes
from ..spec import Attention, Block, Hyena, Mamba, Mamba2, Mixer, ModelSpec, Moe, Parallel
from ..spec.state import ITEM_BYTES
from ..state.sequence import Precision
from ..system.units import amount
from ..system.units import size as bytes_for_people
from .model import Model


class Size(NamedTuple):
    """Numbers of parameters: all of them, those that one token uses, and those of the embedding alone."""

    total: int
    active: int
    embedding: int


def skeleton(spec: ModelSpec) -> Model:
    """Builds a model without memory for its parameters; `SpecError` if one is larger than any memory can be."""
    try:
        with torch.device("meta"):
            return Model(spec)
    except (RuntimeError, TypeError) as error:
        # torch counts bytes in 64 bits, and says so in one way or the other.
        if "verflow" not in str(error):
            raise
        raise SpecError("this spec needs a tensor of more than 2^63 bytes, which no memory can hold") from None


def size(spec: ModelSpec) -> Size:
    """Counts parameters; of a mixture of experts a token uses the chosen ones only."""
    model = skeleton(spec)
    total = sum(parameter.numel() for parameter in model.parameters())
    idle = sum(_idle(block, spec.width) for block in spec.blocks)
    return Size(total, total - idle, model.embed.weight.numel())


def _idle(block: Block, width: int) -> int:
    """Parameters of experts that one token does not choose."""
    if not isinstance(block.ffn, Moe):
        return 0
    return (block.ffn.experts - block.ffn.top_k) * 3 * width * block.ffn.hidden


def transformer_bytes_per_token(spec: ModelSpec, kv_dtype: str) -> float:
    """Bytes of keys and values that a transformer of this width and depth would hold of each token.

    A layer of it is a mixer and a feed-forward; two mixers without one count as a layer, as in Mamba (Gu and Dao
    2023, section 3.4). Its keys and values are as wide as those of the model's own attention, or else as the model.
    """
    mixers = (block.mixer for block in spec.blocks)
    own = [mixer.attention if isinstance(mixer, Parallel) else mixer for mixer in mixers]
    widths = [part.kv_heads * (part.head_dim + part.v_dim) for part in own if isinstance(part, Attention)]
    layers = sum(1.0 if block.ffn is not None else 0.5 for block in spec.blocks)
    return layers * (max(widths) if widths else 2 * spec.width) * ITEM_BYTES[kv_dtype]


def mixer_flops(spec: ModelSpec, length: int) -> float:
    """FLOPs of the sequence mixers themselves, projections apart, over a prompt of `length` tokens.

    Counted on the recurrent form, a multiplication and an addition as two: what no way of
    computing them can do without.
    """
    return sum(length * _flops_a_token(block.mixer, spec.width, length) for block in spec.blocks)


def _flops_a_token(mixer: Mixer, width: int, length: int) -> float:
    match mixer:
        case Attention():
            seen = (length + 1) / 2 if mixer.window is None else min((length + 1) / 2, mixer.window + mixer.sink_tokens)
            return 2 * mixer.heads * (mixer.head_dim + mixer.v_dim) * seen
        case Mamba():
            return 6 * mixer.inner * mixer.d_state + 2 * mixer.inner * mixer.conv
        case Mamba2():
            return 6 * mixer.inner * mixer.d_state + 2 * mixer.conv_width * mixer.conv
        case Hyena():
            return 12 * width * mixer.d_state + 6 * width * mixer.conv
        case Parallel():
            return _flops_a_token(mixer.attention, width, length) + _flops_a_token(mixer.ssm, width, length)


def weight_bytes(spec: ModelSpec, dtype: torch.dtype, kinds: Mapping[str, str] | None = None) -> int:
    """Bytes of the weights in a model of `dtype`, of which those named in `kinds` are quantized to that kind."""
    model, kinds = skeleton(spec), kinds or {}
    dtypes = parameter_dtypes(model, dtype)

    def count(name: str, weight: Tensor) -> int:
        return quantized_bytes(weight.shape, kinds[name]) if name in kinds else weight.numel() * dtypes[name].itemsize

    return sum(count(name, weight) for name, weight in model.named_parameters())


def facts(spec: ModelSpec, lengths: Sequence[int], precision: Precision, kinds: Mapping[str, str]) -> dict[str, Any]:
    """Footprint as data: parameters, bytes of weights (quantized as in `kinds`), bytes of state at `lengths` tokens."""
    count = size(spec)
    return {
        "parameters": count.total,
        "active_parameters": count.active,
        "embedding_parameters": count.embedding,
        "weight_bytes": weight_bytes(spec, precision.dtype, kinds),
        "quantized": dict(Counter(kinds.values())),
        "state_bytes": {str(n): spec.state_bytes(n, dtype=precision.name, kv_dtype=precision.kv) for n in lengths},
        "dtype": precision.name,
        "kv_dtype": precision.kv,
    }


def lines(spec: ModelSpec, known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Footprint as (name, value) pairs for people: the spec's lines, then what `facts` found."""
    active = known["active_parameters"]
    more = f" ({amount(active)} used by a token)" if active != known["parameters"] else ""
    forms = "".join(f", {count} in {kind}" for kind, count in known["quantized"].items())
    return [
        *specs.lines(spec),
        ("parameters", amount(known["parameters"]) + more),
        (f"weights, {known['dtype']}{forms}", bytes_for_people(known["weight_bytes"])),
        *((f"state at {length} tokens", bytes_for_people(count)) for length, count in known["state_bytes"].items()),
    ]


def parameter_dtypes(model: Model, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Dtype of each weight in a model of `dtype`: some stay in float32 (see `Model.fp32_parameter_names`).

    Parts of quantized weights have dtypes of their own.
    """
    precise = set(model.fp32_parameter_names()) if dtype != torch.float64 else set()
    dtypes = {name: torch.float32 if name in precise else dtype for name, _ in model.named_parameters()}
    return dtypes | {name: part.dtype for name, part in model.named_buffers()}
