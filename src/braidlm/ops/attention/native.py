"""Attention by blocks with a running softmax, in C++: memory linear in the length, no mask, no copy of the past."""

import torch
from torch import Tensor

from ..native_loader import extension, takes
from ..segments import Segments
from ..strides import channels_together
from ..threads import count
from . import reference


def attention(
    q_THK: Tensor,
    k_TGK: Tensor,
    v_TGV: Tensor,
    past: tuple[tuple[Tensor, Tensor, Tensor] | None, ...],
    starts: tuple[int, ...],
    segments: Segments,
    *,
    scale: float,
    visible: tuple[int | None, int],
) -> Tensor:
    """See the package; row by row."""
    tensors = [q_THK, k_TGK, v_TGV, *(t for earlier in past if earlier is not None for t in earlier[:2])]
    if not (takes(*tensors) and all(t.dtype == q_THK.dtype for t in tensors)):
        return reference.attention(q_THK, k_TGK, v_TGV, past, starts, segments, scale=scale, visible=visible)
    _, groups, key = k_TGK.shape
    value = v_TGV.shape[2]
    y_THV = torch.empty(*q_THK.shape[:2], value, dtype=q_THK.dtype)
    new = [channels_together(t.detach()) for t in (q_THK, k_TGK, v_TGV)]
    y = y_THV.flatten(1)
    for row, earlier in enumerate(past):
        begin, end = segments.starts[row], segments.starts[row + 1]
        q, k, v = (t[begin:end] for t in new)
        old_k, old_v, positions = (None, None, None) if earlier is None else _held(earlier)
        sizes = (starts[row], groups, key, value, scale, *visible)
        extension().attention(q, k, v, old_k, old_v, positions, *sizes, y[begin:end], count())
    return y_THV


def _held(earlier: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    k_SGK, v_SGV, positions_S = earlier
    return channels_together(k_SGK.detach()), channels_together(v_SGV.detach()), positions_S.contiguous()
