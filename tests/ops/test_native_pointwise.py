"""Native gated units and residual sums, at every instruction-set level."""

import pytest
import torch
import torch.nn.functional as F

from braidlm import ops
from tests.ops.levels import LEVELS, at_level
from tests.ops.test_carried import close
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


def test_gradients_are_recorded() -> None:
    """Oracle: finite differences in float64, and that float32 leaves get gradients too."""
    for dtype in (torch.float64, torch.float32):
        x, y = (torch.randn(3, 5, dtype=dtype, requires_grad=True) for _ in range(2))
        ops.add_scaled(x, ops.glu(x, y, "gelu"), 0.5).sum().backward()
        assert x.grad is not None and y.grad is not None
    leaves = [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda x, y: ops.add_scaled(x, ops.glu(x, y, "silu"), 0.5), leaves)
