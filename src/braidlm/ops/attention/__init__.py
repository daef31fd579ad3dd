"""Causal softmax attention over packed rows, with keys and values of earlier tokens.

The query at absolute position p sees key position j iff j <= p and (p - j < window or
j < sink_tokens); `window` None means no limit. Query head h uses key/value head h // (H / G).

Legend: T = packed tokens, H = query heads, G = key/value heads, K = key size, V = value size,
S = earlier keys of one row.
"""

from typing import NamedTuple

from torch import Tensor

from .. import dispatch
from ..native_loader import why_not
from ..segments import Segments
from . import gpu, native, reference


class Visible(NamedTuple):
    """Keys that a query sees: the last `window` ones, its own included (None: all), and the first `sink_tokens`."""

    window: int | None
    sink_tokens: int


class Past(NamedTuple):
    """Earlier keys [S, G, K] and values [S, G, V] of one row, by increasing absolute `positions_S`."""

    k_SGK: Tensor
    v_SGV: Tensor
    positions_S: Tensor


dispatch.register("attention", "reference", reference.attention)
dispatch.register("attention", "native", native.attention, why_not)
dispatch.register("attention", "gpu", gpu.attention, gpu.why_not)


def attention(
    q_THK: Tensor,
    k_TGK: Tensor,
    v_TGV: Tensor,
    past: tuple[Past | None, ...],
    starts: tuple[int, ...],
    segments: Segments,
    *,
    scale: float,
    visible: Visible,
) -> Tensor:
    """Attends each row's new tokens to its `past` and to themselves; returns [T, H, V] in q's dtype.

    `starts` are the absolute positions of the rows' first new tokens. Scores are multiplied by
    `scale`; softmax is in float32 (float64 for float64 inputs).
    """
    implementation = dispatch.select("attention", q_THK.device.type)
    return implementation(q_THK, k_TGK, v_TGV, past, starts, segments, scale=scale, visible=visible)
