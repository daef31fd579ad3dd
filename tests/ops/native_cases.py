"""Cases of the kernels that carry a state, at odd sizes."""

from collections.abc import Callable

import torch
from torch import Tensor

from braidlm import ops
from tests.ops import definitions
from tests.ops.carried import Case, randn


def conv(channels: int, taps: int, silu: bool, bias: bool) -> Case:
    return Case(
        lambda total: (randn(total, channels),),
        (randn(channels, taps), randn(channels) if bias else None),
        (channels, taps - 1),
        lambda x, w, b, s, g: ops.causal_conv1d(x, w, b, s, g, silu=silu),
        lambda x, w, b, s: definitions.causal_conv1d(x, w, b, s, silu=silu),
        y_like_x=True,
    )


def scan(channels: int, wide: int) -> Case:
    return Case(
        lambda n: (randn(n, channels), torch.rand(n, channels).double(), randn(n, wide), randn(n, wide)),
        (-4 * torch.rand(channels, wide).double(), randn(channels)),
        (channels, wide),
        lambda x, dt, b, c, a, d, s, g: ops.selective_scan(x, dt, a, b, c, d, s, g),
        lambda x, dt, b, c, a, d, s: definitions.selective_scan(x, dt, a, b, c, d, s),
    )


def gated_scan(channels: int, wide: int) -> Case:
    return Case(
        lambda n: (randn(n, channels), randn(n, channels), randn(n, wide), randn(n, wide), randn(n, channels)),
        (-4 * torch.rand(channels, wide).double(), randn(channels), randn(channels)),
        (channels, wide),
        lambda x, dt, b, c, z, a, d, i, s, g: ops.gated_selective_scan(x, dt, i, a, b, c, d, z, s, g),
        definitions.gated_selective_scan,
        y_like_x=True,
    )


def ssd(heads: int, size: int, groups: int, wide: int) -> Case:
    return Case(
        lambda n: (
            randn(n, heads, size),
            torch.rand(n, heads).double(),
            randn(n, groups, wide),
            randn(n, groups, wide),
        ),
        (-4 * torch.rand(heads).double(), randn(heads)),
        (heads, size, wide),
        lambda x, dt, b, c, a, d, s, g: ops.ssd(x, dt, a, b, c, d, s, g),
        lambda x, dt, b, c, a, d, s: definitions.ssd(x, dt, a, b, c, d, s),
    )


def hyena(channels: int, filters: int, modes: int) -> Case:
    poles = torch.polar(torch.rand(filters, modes).double(), randn(filters, modes))
    return Case(
        lambda n: (randn(n, channels), randn(n, channels)),
        (poles, torch.complex(randn(filters, modes), randn(filters, modes)), randn(channels)),
        (channels, modes),
        ops.gated_conv,
        definitions.gated_conv,
        complex_state=True,
    )


CASES: dict[str, Callable[[], Case]] = {
    "conv of one tap": lambda: conv(5, 1, False, True),
    "conv of two taps": lambda: conv(17, 2, True, False),
    "conv of three taps": lambda: conv(261, 3, False, True),
    "conv of four taps": lambda: conv(64, 4, True, True),
    "conv of seven taps": lambda: conv(37, 7, True, True),
    "conv of more taps than a piece has tokens": lambda: conv(3, 140, True, True),
    "scan of one channel": lambda: scan(1, 1),
    "scan": lambda: scan(70, 7),
    "scan, gated": lambda: gated_scan(70, 7),
    "scan of sixteen states, gated": lambda: gated_scan(64, 16),
    "scan of sixteen states": lambda: scan(64, 16),
    "ssd of one head": lambda: ssd(1, 1, 1, 1),
    "ssd": lambda: ssd(6, 9, 1, 21),
    "ssd of three groups": lambda: ssd(6, 40, 3, 16),
    "ssd of two groups of many heads": lambda: ssd(12, 5, 2, 34),
    "ssd of many heads": lambda: ssd(19, 3, 1, 3),
    "gated conv of one mode": lambda: hyena(1, 1, 1),
    "gated conv": lambda: hyena(70, 70, 2),
    "gated conv of shared filters": lambda: hyena(66, 3, 5),
}


def sliced(t: Tensor) -> Tensor:
    """The same numbers as a slice of something wider, like a part of a projection."""
    wide = t.new_full((t.shape[0], t[0].numel() + 8) if len(t) else (0, t.shape[1:].numel() + 8), torch.nan)
    view = wide[:, 5:-3].unflatten(1, t.shape[1:])
    view.copy_(t)
    return view
