"""Tensors of a small implicit filter, named as Hyena's published module names them."""

import math

import torch

LENGTH, FEATURES, HIDDEN, FILTERS = 12, 5, 8, 3


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of one layer's `filter_fn`, with the positions that a module of this length registers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    time = torch.arange(LENGTH, dtype=torch.float64)
    phases = 2 * math.pi * time[:, None] / LENGTH * torch.linspace(1e-4, 1, 2, dtype=torch.float64)
    t = time / (LENGTH - 1)
    freq = normal(1, HIDDEN)
    return {
        "pos_emb.z": torch.cat([t[:, None], phases.cos(), -phases.sin()], 1)[None],
        "pos_emb.t": t[None, :, None],
        "implicit_filter.0.weight": normal(HIDDEN, FEATURES),
        "implicit_filter.0.bias": normal(HIDDEN),
        "implicit_filter.1.freq": freq,
        "implicit_filter.2.weight": normal(HIDDEN, HIDDEN),
        "implicit_filter.2.bias": normal(HIDDEN),
        "implicit_filter.3.freq": freq,
        "implicit_filter.4.weight": normal(FILTERS, HIDDEN),
        "modulation.deltas": normal(1, 1, FILTERS),
        "bias": normal(FILTERS),
    }
