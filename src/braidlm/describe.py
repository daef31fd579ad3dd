"""What a description implies, without building it: parameters, bytes of weights and of state."""

from typing import NamedTuple

import torch

from .model import Model
from .spec import Block, ModelSpec, Moe


class Size(NamedTuple):
    """Numbers of parameters: all of them, those that one token uses, and those of the embedding alone."""

    total: int
    active: int
    embedding: int


def size(spec: ModelSpec) -> Size:
    """Counts parameters; of a mixture of experts a token uses the chosen ones only."""
    with torch.device("meta"):
        model = Model(spec)
    total = sum(parameter.numel() for parameter in model.parameters())
    idle = sum(_idle(block, spec.width) for block in spec.blocks)
    return Size(total, total - idle, model.embed.weight.numel())


def _idle(block: Block, width: int) -> int:
    """Parameters of experts that one token does not choose."""
    if not isinstance(block.ffn, Moe):
        return 0
    return (block.ffn.experts - block.ffn.top_k) * 3 * width * block.ffn.hidden


def weight_bytes(spec: ModelSpec, dtype: torch.dtype) -> int:
    """Bytes of the weights in a model of `dtype`, those that stay in float32 counted as such."""
    with torch.device("meta"):
        model = Model(spec)
    precise = set(model.precise_names()) if dtype != torch.float64 else set()
    wide = torch.float32.itemsize
    return sum(p.numel() * (wide if name in precise else dtype.itemsize) for name, p in model.named_parameters())
