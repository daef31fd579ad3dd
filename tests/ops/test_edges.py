"""The matrix product, and the edges of norms and experts."""

import pytest
import torch
from torch import Tensor

from braidlm import ops
from tests.ops import definitions
from tests.ops.carried import close, randn
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED

DOUBLE = torch.float64


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Sums over single inputs, output by output."""
    outputs = [(x * row).sum(-1) + (0 if bias is None else bias[i]) for i, row in enumerate(weight)]
    return torch.stack(outputs, -1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (65,), (2, 3)])
def test_linear(shape: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    """Oracle: sums of products in float64 over the same rounded numbers; the result has x's dtype."""
    x, weight, shift = randn(*shape, 63).to(dtype), randn(7, 63).to(dtype), randn(7).to(dtype) if bias else None
    found = ops.linear(x, weight, shift)
    expected = product(x.double(), weight.double(), shift.double() if shift is not None else None)
    assert found.dtype == dtype
    assert found.shape == (*shape, 7)
    assert close(found.double(), expected, (RELATIVE_OP | RELATIVE_ROUNDED)[dtype])


def test_linear_gradients() -> None:
    """Oracle: finite differences in float64, through input, weight and bias."""
    leaves = [t.requires_grad_() for t in (randn(3, 4), randn(2, 4), randn(2))]
    assert torch.autograd.gradcheck(ops.linear, leaves)


@pytest.mark.parametrize("outside", [False, True])
def test_rms_norm_of_a_row_of_zeros(outside: bool) -> None:
    """Oracle: the formula's limit: zero, with the slope weight / sqrt(eps) (weight / eps with eps outside the root)."""
    eps, weight = 0.1, randn(4)
    x = torch.stack([torch.zeros(4, dtype=DOUBLE), randn(4)]).requires_grad_()
    y = ops.rms_norm(x, weight, eps, eps_outside_root=outside, dtype=DOUBLE)
    assert torch.equal(y[0], torch.zeros(4, dtype=DOUBLE))
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert close(slope[0], weight / (eps if outside else eps**0.5), RELATIVE_OP[DOUBLE])
    assert slope[1].isfinite().all()


@pytest.mark.parametrize("magnitude", [1e-20, 1e-3, 1e3, 1e15])
def test_rms_norm_keeps_its_scale(magnitude: float) -> None:
    """Oracle: the formula in float64, for numbers whose squares come near the ends of float32's range."""
    x, weight = magnitude * randn(3, 65), randn(65)
    expected = weight * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    found = ops.rms_norm(x.float(), weight.float(), 1e-6, eps_outside_root=False, dtype=torch.float32)
    assert close(found, expected, RELATIVE_OP[torch.float32])


def test_all_experts_at_once() -> None:
    """Oracle: the dense mixture in float64: every expert on every token, weighted by a softmax over all."""
    x, router, gate_up, down = randn(9, 6), randn(5, 6), randn(5, 8, 6), randn(5, 6, 4)
    gate, up = torch.einsum("td,xfd->txf", x, gate_up).chunk(2, -1)
    each = torch.einsum("txf,xdf->txd", gate * torch.sigmoid(gate) * up, down)
    expected = torch.einsum("tx,txd->td", (x @ router.t()).softmax(-1), each)
    assert close(ops.moe(x, router, gate_up, down, top_k=5), expected, RELATIVE_OP[DOUBLE])


@pytest.mark.parametrize("top_k", [1, 2])
def test_experts_of_one_token_are_its_own_affair(top_k: int) -> None:
    """Oracle: the definition; all tokens choose the same experts, then one token among them is NaN."""
    x, router, gate_up, down = randn(7, 6).abs(), randn(4, 6), randn(4, 8, 6), randn(4, 6, 4)
    router[2], router[3] = 10.0, 9.0
    expected = definitions.moe(x, router, gate_up, down, top_k)
    assert close(ops.moe(x, router, gate_up, down, top_k=top_k), expected, RELATIVE_OP[DOUBLE])
    x[3] = torch.nan
    found = ops.moe(x, router, gate_up, down, top_k=top_k)
    others = [0, 1, 2, 4, 5, 6]
    assert close(found[others], expected[others], RELATIVE_OP[DOUBLE])
    assert found[3].isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_experts_keep_the_dtype_of_the_tokens(dtype: torch.dtype) -> None:
    """Oracle: the definition in float64 over the same rounded numbers; experts far apart, so that all agree on them."""
    x = torch.eye(4, dtype=DOUBLE).repeat(3, 1)
    router = 4 * torch.eye(4, dtype=DOUBLE) + torch.arange(4, dtype=DOUBLE)[:, None] / 2
    tensors = [t.to(dtype) for t in (x, router, randn(4, 6, 4), randn(4, 4, 3))]
    found = ops.moe(*tensors, top_k=2)
    expected = definitions.moe(*(t.double() for t in tensors), 2)
    assert found.dtype == dtype
    assert close(found.double(), expected, (RELATIVE_OP | RELATIVE_ROUNDED)[dtype])


def test_fresh_memory_is_poisoned() -> None:
    """Oracle: the house's rule for these tests: memory that was never written is NaN, or no index."""
    like = torch.zeros(2)
    for fresh in (torch.empty(3), torch.empty_like(like), like.new_empty(2), torch.empty_strided((2,), (1,))):
        assert fresh.isnan().all()
    assert torch.empty(2, dtype=torch.int64).min() == torch.iinfo(torch.int64).max
