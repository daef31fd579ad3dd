"""Attention by blocks of queries through torch's scaled_dot_product_attention.

A block sees only the keys that any of its queries can see, and a mask exists only for one block
at a time, so memory is linear in the length whatever the window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..segments import Segments

QUERY_BLOCK = 256
# From this length on, the fused kernel skips masked keys by itself if it sees the whole square.
WHOLE_SQUARE = 1024


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
    """Reference implementation of `ops.attention`; rows without a past are computed together, others one by one."""
    if not segments.total:
        return q_THK.new_empty(*q_THK.shape[:2], v_TGV.shape[2])
    out_RHV: dict[int, Tensor] = {}
    fresh = Segments(tuple(0 if past[r] is not None else n for r, n in enumerate(segments.lengths)))
    for group in fresh.groups:
        q, k, v = (segments.gather(t, group).transpose(1, 2) for t in (q_THK, k_TGK, v_TGV))
        start = starts[group.rows[0]]
        positions = torch.arange(start, start + group.length, device=q.device)
        y_RLHV = _blocks(q, k, v, positions, start, scale, *visible).transpose(1, 2)
        if len(group.rows) == len(segments.lengths):
            return y_RLHV.flatten(0, 1)
        out_RHV.update(zip(group.rows, y_RLHV, strict=True))
    for row, earlier in enumerate(past):
        if earlier is None or not segments.lengths[row]:
            continue
        tokens = slice(segments.starts[row], segments.starts[row + 1])
        new = torch.arange(starts[row], starts[row] + segments.lengths[row], device=q_THK.device)
        k, v = (torch.cat([old, t[tokens]]) for old, t in zip(earlier[:2], (k_TGK, v_TGV)))
        q, k, v = (t.transpose(0, 1)[None] for t in (q_THK[tokens], k, v))
        y = _blocks(q, k, v, torch.cat([earlier[2], new]), starts[row], scale, *visible)
        out_RHV[row] = y[0].transpose(0, 1)
    return torch.cat([out_RHV[r] for r in sorted(out_RHV)])


def _blocks(
    q: Tensor, k: Tensor, v: Tensor, positions_S: Tensor, start: int, scale: float, window: int | None, sink_tokens: int
) -> Tensor:
    """q [R, H, L, K] at positions `start`... against k, v [R, G, S, .] at `positions_S` (the new keys last)."""
    length, held = q.shape[2], k.shape[2]
    value_dim = v.shape[3]
    if value_dim != k.shape[3]:  # the fused kernel wants equal sizes; zeros change neither scores nor values
        size = max(value_dim, k.shape[3])
        q, k, v = (F.pad(t, (0, size - t.shape[3])) for t in (q, k, v))
    if window is not None and start + length - int(positions_S[0]) <= window:
        window = None  # the last query sees the first key
    block = length if window is None and length == held >= WHOLE_SQUARE else QUERY_BLOCK
    outputs = []
    for begin in range(0, length, block):
        end = min(begin + block, length)
        keys = slice(0, held - length + end)
        k_block, v_block, at = k[:, :, keys], v[:, :, keys], positions_S[keys]
        if window is not None:
            seen = (at > start + begin - window) | (at < sink_tokens)
            if not bool(seen.all()):
                chosen = seen.nonzero()[:, 0]
                k_block, v_block, at = k_block[:, :, chosen], v_block[:, :, chosen], at[chosen]
        square = at.shape[0] == end - begin and window is None
        mask = (
            None
            if square
            else _mask(torch.arange(start + begin, start + end, device=q.device), at, window, sink_tokens)
        )
        y = F.scaled_dot_product_attention(
            q[:, :, begin:end],
            k_block,
            v_block,
            mask,
            is_causal=square and end - begin > 1,
            scale=scale,
            enable_gqa=True,
        )
        outputs.append(y)
    y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
    return y[..., :value_dim]


def _mask(queries_L: Tensor, keys_S: Tensor, window: int | None, sink_tokens: int) -> Tensor | None:
    """Mask of the keys that each query sees, [L, S]; None where one query sees them all."""
    if len(queries_L) == 1:  # its keys were chosen by exactly this rule
        return None
    distance = queries_L[:, None] - keys_S[None, :]
    if window is None:
        return distance >= 0
    return (distance >= 0) & ((distance < window) | (keys_S < sink_tokens)[None, :])
