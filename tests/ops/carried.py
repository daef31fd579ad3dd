"""Cases of the operations that carry a state, and what tests of operations share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from braidlm import ops
from braidlm.ops import Carried, Segments
from tests.ops import definitions


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """One operation: how to make its inputs, and how to call it and its definition."""

    inputs: Callable[[int], tuple[Tensor, ...]]  # packed [T, ...] tensors
    fixed: tuple[Tensor | None, ...]  # weights
    state: tuple[int, ...]
    call: Callable[..., Carried]
    define: Callable[..., tuple[Tensor, Tensor]]
    complex_state: bool = False
    y_like_x: bool = False  # y has the dtype of x, not of the state


def conv(silu: bool, bias: bool, taps: int) -> Case:
    weight, shift = randn(6, taps), randn(6) if bias else None
    return Case(
        lambda total: (randn(total, 6),),
        (weight, shift),
        (6, taps - 1),
        lambda x, w, b, s, g: ops.causal_conv1d(x, w, b, s, g, silu=silu),
        lambda x, w, b, s: definitions.causal_conv1d(x, w, b, s, silu=silu),
        y_like_x=True,
    )


def scan() -> Case:
    a, d = -torch.rand(5, 3, dtype=torch.float64) * 4, randn(5)
    return Case(
        lambda n: (randn(n, 5), torch.rand(n, 5, dtype=torch.float64), randn(n, 3), randn(n, 3)),
        (a, d),
        (5, 3),
        lambda x, dt, b, c, a, d, s, g: ops.selective_scan(x, dt, a, b, c, d, s, g),
        lambda x, dt, b, c, a, d, s: definitions.selective_scan(x, dt, a, b, c, d, s),
    )


def gated_scan() -> Case:
    a, d, shift = -torch.rand(5, 3, dtype=torch.float64) * 4, randn(5), randn(5)
    return Case(
        lambda n: (randn(n, 5), randn(n, 5), randn(n, 3), randn(n, 3), randn(n, 5)),
        (a, d, shift),
        (5, 3),
        lambda x, dt, b, c, z, a, d, i, s, g: ops.gated_selective_scan(x, dt, i, a, b, c, d, z, s, g),
        definitions.gated_selective_scan,
        y_like_x=True,
    )


def ssd(groups: int) -> Case:
    a, d = -torch.rand(4, dtype=torch.float64) * 4, randn(4)
    return Case(
        lambda n: (randn(n, 4, 3), torch.rand(n, 4, dtype=torch.float64), randn(n, groups, 5), randn(n, groups, 5)),
        (a, d),
        (4, 3, 5),
        lambda x, dt, b, c, a, d, s, g: ops.ssd(x, dt, a, b, c, d, s, g),
        lambda x, dt, b, c, a, d, s: definitions.ssd(x, dt, a, b, c, d, s),
    )


def hyena(filters: int) -> Case:
    poles = torch.polar(torch.rand(filters, 2, dtype=torch.float64), randn(filters, 2))
    poles[0, 0] = 0
    residues = torch.complex(randn(filters, 2), randn(filters, 2))
    return Case(
        lambda n: (randn(n, 6), randn(n, 6)),
        (poles, residues, randn(6)),
        (6, 2),
        ops.gated_conv,
        definitions.gated_conv,
        complex_state=True,
    )


CASES: dict[str, Callable[[], Case]] = {
    "conv": lambda: conv(silu=False, bias=True, taps=3),
    "conv, silu": lambda: conv(silu=True, bias=True, taps=4),
    "conv, no bias": lambda: conv(silu=True, bias=False, taps=2),
    "selective scan": scan,
    "gated selective scan": gated_scan,
    "ssd, one group": lambda: ssd(1),
    "ssd, two groups": lambda: ssd(2),
    "gated conv": lambda: hyena(6),
    "gated conv, shared filters": lambda: hyena(2),
}


def cast(value: Any, dtype: torch.dtype) -> Any:
    if value is None:
        return None
    if value.is_complex():
        return value.to(torch.complex64 if dtype == torch.float32 else torch.complex128)
    return value.to(dtype)


def states(case: Case, rows: int) -> Tensor:
    state = randn(rows, *case.state)
    return torch.complex(state, randn(rows, *case.state)) if case.complex_state else state


def run(case: Case, inputs: tuple[Tensor, ...], state: Tensor, segments: Segments, dtype: torch.dtype) -> Carried:
    tensors = [cast(t, dtype) for t in (*inputs, *case.fixed, state)]
    return case.call(*tensors, segments)


def close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    if not expected.numel():
        return found.shape == expected.shape
    scale = expected.abs().max().clamp_min(1e-30)
    return bool((found - expected).abs().max() / scale <= tolerance)
