"""Footprint of a model from its spec alone: parameters, dtypes, bytes, FLOPs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import spec as specs
from ..errors import SpecError
from ..ops.linear.quantized import quantized_bytes
from ..spec import FeedForwardSpec, ModelSpec, attention_of
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
    ffns: list[FeedForwardSpec] = [block.ffn for block in spec.blocks if block.ffn is not None]
    idle = sum(ffn.idle_parameters(spec.width) for ffn in ffns)
    return Size(total, total - idle, model.embed.weight.numel())


def transformer_bytes_per_token(spec: ModelSpec, kv_dtype: str) -> float:
    """Bytes of keys and values that a transformer of this width and depth would hold of each token.

    A layer of it is a mixer and a feed-forward; two mixers without one count as a layer, as in Mamba (Gu and Dao
    2023, section 3.4). Its keys and values are as wide as those of the model's own attention, or else as the model.
    """
    own = [attention_of(block.mixer) for block in spec.blocks]
    widths = [part.kv_heads * (part.head_dim + part.v_dim) for part in own if part is not None]
    layers = sum(1.0 if block.ffn is not None else 0.5 for block in spec.blocks)
    return layers * (max(widths) if widths else 2 * spec.width) * ITEM_BYTES[kv_dtype]


def mixer_flops(spec: ModelSpec, length: int) -> float:
    """FLOPs of the sequence mixers themselves over a prompt of `length` tokens (see `MixerSpec.flops`)."""
    return sum(block.mixer.flops(spec.width, length) for block in spec.blocks)


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
    """Footprint as (name, value) pairs for people: the spec's lines, then what `facts` found.

    With a `usable_length` among what is known, up to which the model was measured to be usable, that too.
    """
    active = known["active_parameters"]
    more = f" ({amount(active)} used by a token)" if active != known["parameters"] else ""
    formats = "".join(f", {count} in {kind}" for kind, count in known["quantized"].items())
    usable = known.get("usable_length")
    return [
        *specs.lines(spec),
        *([("usable length", f"{usable} tokens, as measured")] if usable is not None else []),
        ("parameters", amount(known["parameters"]) + more),
        (f"weights, {known['dtype']}{formats}", bytes_for_people(known["weight_bytes"])),
        *((f"state at {length} tokens", bytes_for_people(count)) for length, count in known["state_bytes"].items()),
    ]


def parameter_dtypes(model: Model, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Dtype of each weight in a model of `dtype`: some stay in float32 (see `Model.fp32_parameter_names`).

    Parts of quantized weights have dtypes of their own.
    """
    precise = set(model.fp32_parameter_names()) if dtype != torch.float64 else set()
    dtypes = {name: torch.float32 if name in precise else dtype for name, _ in model.named_parameters()}
    return dtypes | {name: part.dtype for name, part in model.named_buffers()}
