"""Bytes of training a model on one packed sequence, by a stated rule.

Weights, their gradients and AdamW's two moments are float32. Where activations are narrower, a weight is cast once a
step and the cast is kept for its gradient. Of every token a block keeps the input and the output of each matrix and
short convolution that the token uses, in the activations' dtype, and the residual stream before its mixer and its
feed-forward in float32: within a quarter of what autograd keeps.
With activation checkpointing it keeps the residual stream that enters it; one block at a time holds its own. The head
runs in chunks of tokens, whose logits and their gradients are float32.
"""

from typing import NamedTuple

import torch

from ..model.footprint import skeleton
from ..model.model import Model
from ..spec import ModelSpec
from .floor import read_shares

_FLOAT32 = 4
_HEAD_CHUNK = 1024


class TrainingMemory(NamedTuple):
    """Bytes of a training step: what stays between steps, and the activations, with and without checkpointing."""

    weights: int
    gradients: int
    moments: int
    casts: int
    activations: int
    checkpointed_activations: int

    @property
    def total(self) -> int:
        """Bytes without activation checkpointing."""
        return self.weights + self.gradients + self.moments + self.casts + self.activations

    @property
    def checkpointed_total(self) -> int:
        """Bytes with activation checkpointing; casts of weights are not kept then."""
        return self.weights + self.gradients + self.moments + self.checkpointed_activations


def training_memory(spec: ModelSpec, tokens: int, dtype: torch.dtype) -> TrainingMemory:
    """Bytes of training on a packed sequence of `tokens` tokens, with activations of `dtype`."""
    model = skeleton(spec)
    count = sum(parameter.numel() for parameter in model.parameters())
    blocks = [tokens * each for each in _block_bytes(model, dtype.itemsize)]
    head = 2 * min(tokens, _HEAD_CHUNK) * spec.vocab * _FLOAT32
    entering = tokens * spec.width * _FLOAT32
    return TrainingMemory(
        weights=_FLOAT32 * count,
        gradients=_FLOAT32 * count,
        moments=2 * _FLOAT32 * count,
        casts=dtype.itemsize * count if dtype.itemsize < _FLOAT32 else 0,
        activations=sum(blocks) + entering + head,
        checkpointed_activations=(len(blocks) + 1) * entering + max(max(blocks), head),
    )


def _block_bytes(model: Model, item_bytes: int) -> list[int]:
    """Bytes that each block keeps of one token."""
    spec, shares = model.spec, read_shares(model.spec, 1)
    streams = [_FLOAT32 * spec.width * (1 if block.ffn is None else 2) for block in spec.blocks]
    found = [float(kept) for kept in streams]
    for name, weight in model.named_parameters():
        room, _, rest = name.partition(".")
        if room == "blocks":
            found[int(rest.partition(".")[0])] += _channels(name, weight.shape) * shares.get(name, 1.0) * item_bytes
    return [round(kept) for kept in found]


def _channels(name: str, shape: torch.Size) -> int:
    """Channels of a token that go into a weight and come out of it; none for what is neither matrix nor convolution."""
    match tuple(shape):
        case (channels, 1, _):
            return 2 * channels
        case (experts, outputs, inputs):
            return experts * (outputs + inputs)
        case (outputs, inputs) if name.endswith(".weight"):
            return outputs + inputs
    return 0
