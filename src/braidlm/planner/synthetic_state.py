"""States of sequences that were never read: of any length, filled with random numbers, for measurements."""

from dataclasses import replace

import torch
from torch import Tensor

from ..spec.state import PAGE_TOKENS
from ..state.kv import KeyValues, quantize_kv
from ..state.sequence import LayerState, SequenceState

_CHUNK = 4 * PAGE_TOKENS


def synthetic_state(empty: SequenceState, length: int, dtype: torch.dtype, seed: int = 0) -> SequenceState:
    """A state as if `length` tokens had been read after `empty`, with random numbers of `dtype` in place of theirs."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for layer in empty.layers:
        recurrent = {name: _random_like(held, generator) for name, held in layer.recurrent.items()}
        kv = None if layer.kv is None else _append_random(layer.kv, length - empty.length, dtype, generator)
        layers.append(LayerState(recurrent, kv))
    return replace(empty, length=length, layers=tuple(layers))


def _append_random(held: KeyValues, count: int, dtype: torch.dtype, generator: torch.Generator) -> KeyValues:
    """Appends keys and values of `count` positions; those of a few pages are made once and come again and again."""
    spec, end = held.spec, held.length + count
    k, v = (
        quantize_kv(torch.randn(_CHUNK, spec.heads, size, generator=generator).to(dtype), held.kv_dtype)
        for size in (spec.k_dim, spec.v_dim)
    )
    while held.length < end:
        part = slice(0, end - held.length)
        held = held.append(k.positions(part), v.positions(part))
    return held


def _random_like(held: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(held.shape, generator=generator, dtype=torch.float32).to(held.dtype)
