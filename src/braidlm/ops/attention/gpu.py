"""Attention for training on GPUs: torch's FlexAttention (Dong et al. 2024), compiled for the mask of the packed rows.

Legend: as in the package, but S = keys of all rows together, the earlier ones of a row before its new ones.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..segments import Segments
from . import reference

# FlexAttention takes no smaller heads.
_LEAST_HEAD = 16
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Held = tuple[Tensor, Tensor, Tensor] | None


def why_not() -> str | None:
    """Reason why this implementation cannot run here, or None if it can."""
    return None if torch.cuda.is_available() else "there is no CUDA device, or this torch was built without CUDA"


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
    """GPU implementation of `ops.attention`, for training.

    Without gradients the reference runs: a mask and a kernel for each new token would cost more.
    """
    tensors = (q_THK, k_TGK, v_TGV, *(t for earlier in past if earlier is not None for t in earlier[:2]))
    recorded = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    takes = all(t.dtype == q_THK.dtype and t.shape[-1] >= _LEAST_HEAD for t in tensors) and q_THK.dtype in _DTYPES
    implementation = attend if recorded and takes and segments.total else reference.attention
    return implementation(q_THK, k_TGK, v_TGV, past, starts, segments, scale=scale, visible=visible)


def attend(
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
    """Attends all rows as one sequence, whose mask keeps them apart; compiled on GPUs only."""
    flex, _ = _tools(compiled=q_THK.is_cuda)
    held = tuple(None if earlier is None else earlier[2] for earlier in past)
    if any(at is not None for at in held):
        mask = block_mask(segments, starts, held, visible, q_THK.device)
    else:
        mask = _mask_without_past(segments, starts, visible, q_THK.device)
    q, k, v = (t.transpose(0, 1)[None] for t in (q_THK, *_keys_values(k_TGK, v_TGV, past, segments)))
    y_RHTV = flex(q, k, v, block_mask=mask, scale=scale, enable_gqa=q_THK.shape[1] != k_TGK.shape[1])
    return y_RHTV[0].transpose(0, 1)


@functools.cache
def _tools(compiled: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """FlexAttention and what makes its masks; imported here, because that takes a while."""
    module = importlib.import_module("torch.nn.attention.flex_attention")
    tools = (module.flex_attention, module.create_block_mask)
    return (torch.compile(tools[0]), torch.compile(tools[1])) if compiled else tools


def _keys_values(k_TGK: Tensor, v_TGV: Tensor, past: tuple[Held, ...], segments: Segments) -> tuple[Tensor, Tensor]:
    """Keys and values of all rows, [S, G, .]."""
    if all(earlier is None for earlier in past):
        return k_TGK, v_TGV
    parts = []
    for row, earlier in enumerate(past):
        tokens = slice(segments.starts[row], segments.starts[row + 1])
        parts += [] if earlier is None else [earlier[:2]]
        parts.append((k_TGK[tokens], v_TGV[tokens]))
    return torch.cat([k for k, _ in parts]), torch.cat([v for _, v in parts])


@functools.lru_cache(maxsize=8)
def _mask_without_past(
    segments: Segments, starts: tuple[int, ...], visible: tuple[int | None, int], device: torch.device
) -> Any:
    """One mask for all layers of a batch that see alike."""
    return block_mask(segments, starts, (None,) * len(starts), visible, device)


def block_mask(
    segments: Segments,
    starts: tuple[int, ...],
    held: tuple[Tensor | None, ...],
    visible: tuple[int | None, int],
    device: torch.device,
) -> Any:
    """Mask of the blocks of keys that each block of queries sees; `held`: positions of the rows' earlier keys."""
    rows = range(len(starts))
    new = [torch.arange(starts[r], starts[r] + segments.lengths[r], device=device) for r in rows]
    at = [new[r] if (earlier := held[r]) is None else torch.cat([earlier, new[r]]) for r in rows]
    (row_of_T, at_T), (row_of_S, at_S) = ((_numbered(parts), torch.cat(parts)) for parts in (new, at))
    window, sink_tokens = visible

    def seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        distance = at_T[query] - at_S[key]
        mask = (row_of_T[query] == row_of_S[key]) & (distance >= 0)
        return mask if window is None else mask & ((distance < window) | (at_S[key] < sink_tokens))

    _, create = _tools(compiled=device.type == "cuda")
    return create(seen, None, None, len(at_T), len(at_S), device=device)


def _numbered(parts: list[Tensor]) -> Tensor:
    """The number of the part of each element of `parts`, laid end to end."""
    return torch.cat([torch.full_like(part, number) for number, part in enumerate(parts)])
