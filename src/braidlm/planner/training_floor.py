"""Floor of a training step, the least time that it can take: its matrix products and its mixers' own operations."""

from ..model.footprint import mixer_flops, size
from ..spec import ModelSpec
from .floor import Rates, inner_parameters

# A product forwards, and two for its gradients.
_PASSES = 3


def training_floor(spec: ModelSpec, tokens: int, rates: Rates, *, activation_checkpointing: bool = False) -> float:
    """Seconds for one sequence of `tokens` tokens: 6 operations a token and active parameter; 8 if blocks run twice.

    An embedding that is not also the head is only looked up.
    """
    counted = size(spec)
    head = counted.embedding
    inside = inner_parameters(spec, counted)
    passes = _PASSES + (1 if activation_checkpointing else 0)
    products = 2 * tokens * (passes * inside + _PASSES * head)
    return products / rates.products + passes * mixer_flops(spec, tokens) / rates.float32
