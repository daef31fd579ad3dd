"""Weights in huge pages of memory (`system.huge_pages`).

Files are mapped with small pages; so weights move to memory of the process's own. What they were mapped from
is given up, so that there is one copy, as before. Weights that were dequantized there stay where they are.
"""

from ..model.identity import held_weights
from ..model.model import Model
from ..system.huge_pages import HugePages, in_huge_pages, offered
from ..system.memory import available_memory

# Smaller ones have pieces of their own: they stay when matrices are replaced by quantized ones.
_SMALL = 64 << 10


def move_to_huge_pages(model: Model) -> None:
    """Moves the weights of a model on the CPU to huge pages, where the system has them and memory allows it."""
    moving = [t for t in held_weights(model) if t.device.type == "cpu" and t.is_contiguous() and t.nbytes]
    moving = [t for t in moving if not in_huge_pages(t)]
    # Files that were read stay in the system's cache for a while: only memory that is free anyway is taken.
    if not moving or not offered() or 2 * sum(t.nbytes for t in moving) > available_memory():
        return
    large, small = HugePages(), HugePages()
    with model.weights.keep_fingerprint():
        for tensor in moving:
            place = (large if tensor.nbytes >= _SMALL else small).empty(tensor.shape, tensor.dtype)
            place.copy_(tensor.detach())
            tensor.data = place
