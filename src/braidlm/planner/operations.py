"""FLOPs of one token, from the spec alone: products with weights, and the mixers' own operations."""

from typing import NamedTuple

from ..model import footprint
from ..spec import ModelSpec
from .floor import inner_parameters


class TokenFlops(NamedTuple):
    """FLOPs of a token at one length: of a prompt's average token, and of the token generated after it."""

    length: int
    prefill: float
    decode: float


def token_flops(spec: ModelSpec, size: footprint.Size, length: int) -> TokenFlops:
    """FLOPs of a token of a prompt of `length` >= 1 tokens, whose last alone runs the head, and of the one after it."""
    inner = 2 * inner_parameters(spec, size)
    head = 2 * size.embedding
    mixing = footprint.mixer_flops(spec, length)
    marginal = footprint.mixer_flops(spec, length + 1) - mixing
    return TokenFlops(length, inner + (mixing + head) / length, inner + head + marginal)


def training_flops(spec: ModelSpec, length: int) -> float:
    """FLOPs of training on a token of a sequence of `length` tokens: forwards, and twice as much for the gradients."""
    counted = footprint.size(spec)
    products = 2 * (inner_parameters(spec, counted) + counted.embedding)
    return 3 * (products + footprint.mixer_flops(spec, length) / length)
