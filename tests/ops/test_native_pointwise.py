"""Native gated units and residual sums, at every instruction-set level."""

import pytest
import torch
import torch.nn.functional as F

from braidlm import ops
from braidlm.ops import dispatch
from tests.ops.carried import close
from tests.ops.levels import LEVELS, at_level
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED

SHAPES = [(1, 1), (3, 7), (2, 16), (17, 33), (2, 3, 65)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gated_units(level: str, shape: tuple[int, ...], activation: str, dtype: torch.dtype) -> None:
    """Oracle: torch's activations in float64; halves of one projection, as mixers hand them over; far tails too."""
    both = (torch.randn(*shape[:-1], 2 * shape[-1]) * 6).to(dtype)
    gate, up = both.chunk(2, -1)
    expected = (F.silu if activation == "silu" else F.gelu)(gate.double()) * up.double()
    with at_level(level):
        found = ops.glu(gate, up, activation)
    assert found.dtype == dtype
    assert close(found.double(), expected, RELATIVE_OP[dtype] if dtype in RELATIVE_OP else RELATIVE_ROUNDED[dtype])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaled_sums(level: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Oracle: the sum in float64; inputs are left alone."""
    x, y = torch.randn(shape), torch.randn(shape).to(dtype)
    before = x.clone()
    with at_level(level):
        found = ops.add_scaled(x, y, 0.7)
    assert found.dtype == torch.float32
    assert close(found.double(), x.double() + 0.7 * y.double(), RELATIVE_OP[torch.float32])
    assert torch.equal(x, before)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_gated_units(level: str, shape: tuple[int, ...], activation: str, dtype: torch.dtype) -> None:
    """Oracle: the reference's gradients in float64 of the same rounded numbers; halves of one projection; far tails."""
    both = (torch.randn(*shape[:-1], 2 * shape[-1]) * 6).to(dtype).requires_grad_()
    wide, drawn = both.detach().double().requires_grad_(), torch.randn(shape).to(dtype)
    with at_level(level):
        ops.glu(*both.chunk(2, -1), activation).backward(drawn)
    with dispatch.using("reference"):
        ops.glu(*wide.chunk(2, -1), activation).backward(drawn.double())
    assert both.grad.dtype == dtype
    tolerance = RELATIVE_OP[dtype] if dtype in RELATIVE_OP else RELATIVE_ROUNDED[dtype]
    assert close(both.grad.double(), wide.grad, tolerance)


@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_scaled_sums(scale: float, dtype: torch.dtype) -> None:
    """Oracle: by hand, what comes in and its product with the scale, rounded once."""
    x, y = torch.randn(3, 5).requires_grad_(), torch.randn(3, 5).to(dtype).requires_grad_()
    drawn = torch.randn(3, 5)
    ops.add_scaled(x, y, scale).backward(drawn)
    assert torch.equal(x.grad, drawn)
    assert torch.equal(y.grad, (drawn * scale).to(dtype))


def test_a_gated_unit_keeps_its_inputs_alone() -> None:
    """Oracle: the bytes of gate and up, which lie in one tensor."""
    both, kept = torch.randn(7, 2 * 33).bfloat16().requires_grad_(), {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        ops.glu(*both.chunk(2, -1), "silu")
    assert kept == {both.untyped_storage().data_ptr(): 7 * 2 * 33 * 2}


def test_gradients_are_recorded() -> None:
    """Oracle: finite differences in float64, and that float32 leaves get gradients too."""
    for dtype in (torch.float64, torch.float32):
        x, y = (torch.randn(3, 5, dtype=dtype, requires_grad=True) for _ in range(2))
        ops.add_scaled(x, ops.glu(x, y, "gelu"), 0.5).sum().backward()
        assert x.grad is not None and y.grad is not None
    leaves = [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda x, y: ops.add_scaled(x, ops.glu(x, y, "silu"), 0.5), leaves)
