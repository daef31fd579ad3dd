"""Gradients of the native twins, at every level."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from braidlm.ops import Segments, dispatch
from tests.ops.levels import LEVELS, at_level
from tests.ops.test_carried import close, states
from tests.ops.test_native_carried import CASES
from tests.tolerances import RELATIVE_OP

SCANS = [name for name in CASES if name.startswith("scan")]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    with at_level(request.param):
        yield request.param


def gradients(name: str, tensors: list[Tensor], segments: Segments, twin: str, seed: int) -> list[Tensor]:
    """Gradients of a random weighting of outputs, final and marked states, for every input."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    with dispatch.using(twin):
        y, after, marked = CASES[name]().call(*leaves, segments)
    generator = torch.Generator().manual_seed(seed)
    made = [y, after, *(at for of_row in marked for at in of_row)]
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in made]
    loss = sum((t.double() * w).sum() for t, w in zip(made, weights, strict=True))
    return list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("lengths", [(1,), (5,), (64,), (65,), (150,), (9, 9), (0, 70, 2, 70, 1)])
@pytest.mark.parametrize("name", SCANS)
def test_gradients(name: str, lengths: tuple[int, ...], level: str) -> None:
    """Oracle: the reference's gradients in float64, through inputs, weights, initial, final and marked states."""
    case, segments = CASES[name](), Segments(lengths, tuple((1,) if n > 60 else () for n in lengths))
    tensors = [*case.inputs(segments.total), *(t for t in case.fixed if t is not None), states(case, len(lengths))]
    expected = gradients(name, tensors, segments, "reference", 1)
    found = gradients(name, [t.float() for t in tensors], segments, "native", 1)
    for ours, theirs in zip(found, expected, strict=True):
        assert close(ours.double(), theirs, RELATIVE_OP[torch.float32])


@pytest.mark.parametrize("name", SCANS)
def test_gradients_have_their_inputs_dtype(name: str, level: str) -> None:
    """Oracle: autograd's rule; and nothing that was handed in needs a gradient to be computed."""
    case = CASES[name]()
    x, *inputs = (t.bfloat16() for t in case.inputs(20))
    tensors = [*inputs, *(t.float() for t in case.fixed if t is not None), states(case, 1).float()]
    x.requires_grad_()
    with dispatch.using("native"):
        y, _, _ = case.call(x, *tensors, Segments((20,)))
    (found,) = torch.autograd.grad(y.sum(), x)
    assert found.dtype == x.dtype
    assert found.isfinite().all()
