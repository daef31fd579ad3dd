"""Attention by blocks with a running softmax, in C++: memory linear in the length, no mask, no copy of the past.

Backward too: it keeps each query's logarithm of its softmax's sum, and computes weights again.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native_loader import extension, takes
from ..segments import Segments
from ..strides import channels_together
from ..threads import count
from . import reference

# Tasks that the gradients are shared among at least, if there are so many heads. It is fixed, because
# sums must not depend on the number of threads; each task of a key head costs memory for its sums.
_TASKS = 16

Held = tuple[Tensor, Tensor, Tensor] | None


def attention(
    q_THK: Tensor,
    k_TGK: Tensor,
    v_TGV: Tensor,
    past: tuple[Held, ...],
    starts: tuple[int, ...],
    segments: Segments,
    *,
    scale: float,
    visible: tuple[int | None, int],
) -> Tensor:
    """Native implementation of `ops.attention`; row by row."""
    held = [t for earlier in past if earlier is not None for t in earlier[:2]]
    tensors = (q_THK, k_TGK, v_TGV, *held)
    if not (takes(*tensors, gradients=True) and all(t.dtype == q_THK.dtype for t in tensors)):
        return reference.attention(q_THK, k_TGK, v_TGV, past, starts, segments, scale=scale, visible=visible)
    positions = tuple(None if earlier is None else earlier[2].contiguous() for earlier in past)
    return _Attention.apply(_Rows(positions, starts, segments, scale, visible), *tensors)


@dataclass(frozen=True)
class _Rows:
    """Layout of a call: positions of keys and queries, and which keys a query sees."""

    positions: tuple[Tensor | None, ...]
    starts: tuple[int, ...]
    segments: Segments
    scale: float
    visible: tuple[int | None, int]

    def tokens(self, row: int) -> slice:
        """Tokens of a row in the packed batch."""
        return slice(self.segments.starts[row], self.segments.starts[row + 1])

    def pairs(self, held: tuple[Any, ...]) -> list[tuple[Any, Any]]:
        """Pairs of `held` by row; Nones for a row without a past."""
        rest = iter(held)
        return [(None, None) if at is None else (next(rest), next(rest)) for at in self.positions]


class _Attention(torch.autograd.Function):
    """Autograd function of q [T, H, K], k [T, G, K], v [T, G, V] and the earlier keys and values of rows."""

    @staticmethod
    def forward(ctx: Any, rows: _Rows, *tensors: Tensor) -> Tensor:
        q, _, v = tensors[:3]
        y = torch.empty(*q.shape[:2], v.shape[2], dtype=q.dtype)
        lse = torch.empty(q.shape[1], len(q)) if any(ctx.needs_input_grad) else None
        for row, given in enumerate(_given(rows, tensors)):
            at = rows.tokens(row)
            extension().attention(*given, y.flatten(1)[at], lse if lse is None else lse[:, at], count())
        if lse is not None:
            ctx.save_for_backward(y, lse, *tensors)
            ctx.rows = rows
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        y, lse, *tensors = ctx.saved_tensors
        rows, dy = ctx.rows, channels_together(dy)
        heads, groups = tensors[0].shape[1], tensors[1].shape[1]
        parts = _parts(heads // groups, groups)
        dq = torch.zeros(tensors[0].shape).flatten(1)
        of_keys = [torch.empty(parts, len(t), t.shape[1:].numel()) for t in tensors[1:]]
        for row, (given, past) in enumerate(zip(_given(rows, tensors), rows.pairs(tuple(of_keys[2:])), strict=True)):
            at = rows.tokens(row)
            new = (t[:, at] for t in of_keys[:2])
            made = (y.flatten(1)[at], lse[:, at], dy[at], dq[at])
            extension().attention_backward(*given, *made, *new, *past, count())
        sums = [dq, *(t[0] if parts == 1 else t.sum(0) for t in of_keys)]
        return None, *(d.view(t.shape).to(t.dtype) for d, t in zip(sums, tensors, strict=True))


def _given(rows: _Rows, tensors: Any) -> list[tuple[Any, ...]]:
    """Arguments of the extension for each row, in both directions."""
    q, k, v, *held = (channels_together(t.detach()) for t in tensors)
    sizes = (tensors[1].shape[1], tensors[1].shape[2], tensors[2].shape[2], rows.scale, *rows.visible)
    return [
        (*(t[rows.tokens(row)] for t in (q, k, v)), *past, rows.positions[row], rows.starts[row], *sizes)
        for row, past in enumerate(rows.pairs(tuple(held)))
    ]


def _parts(share: int, groups: int) -> int:
    """Number of tasks of one key head: the least number that divides its `share` of heads and makes tasks enough."""
    return next(n for n in range(1, share + 1) if share % n == 0 and (n * groups >= _TASKS or n == share))
