"""Products of bfloat16 where the processor cannot multiply it: what runs there, run here."""

import pytest
import torch

from braidlm.ops import dispatch, linear, native_loader, products
from tests.ops.carried import close
from tests.ops.quantized import quantized
from tests.tolerances import RELATIVE_ROUNDED

TOLERANCE = 2 * RELATIVE_ROUNDED[torch.bfloat16]


@pytest.fixture(autouse=True)
def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_multiplies_bfloat16", lambda: False)


@pytest.mark.parametrize("rows", [0, 1, 5, 64, 150])
def test_tiles(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: float64; tiles that do not divide what they are of, either side turned, and a wider right side."""
    monkeypatch.setattr(products, "_SIDE", 70)
    monkeypatch.setattr(products, "_TERMS", 33)
    for terms in (0, 1, 90):
        a, b = torch.randn(rows, terms).bfloat16(), torch.randn(140, terms).bfloat16()
        wanted = a.double() @ b.double().t()
        for left in (a, a.t().contiguous().t()):
            for right in (b.t(), b.t().contiguous(), b.float().t()):
                found = products.mm(left, right)
                assert found.dtype == torch.bfloat16
                assert close(found.double(), wanted, TOLERANCE)
        out = torch.full((rows, 150), torch.nan, dtype=torch.bfloat16)
        products.mm(a, b.t(), out[:, 5:145])
        assert torch.equal(out[:, 5:145], products.mm(a, b.t()))
        assert out[:, :5].isnan().all() and out[:, 145:].isnan().all()


@pytest.mark.parametrize("multiplies", [False, True])
def test_inputs_that_ask_for_gradients(multiplies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the product of the same numbers that ask for none."""
    monkeypatch.setattr(products, "_multiplies_bfloat16", lambda: multiplies)
    a, b = (torch.randn(3, 3).bfloat16().requires_grad_() for _ in range(2))
    found = products.mm(a, b)
    assert not found.requires_grad
    assert torch.equal(found, products.mm(a.detach(), b.detach()))


def test_what_is_multiplied_as_it_is() -> None:
    assert not products.widens(torch.zeros(1))
    assert not products.widens(torch.zeros(1, dtype=torch.float16))
    assert products.widens(torch.zeros(1, dtype=torch.bfloat16))


@pytest.mark.skipif(native_loader.why_not() is not None, reason="the extension is not built")
@pytest.mark.parametrize("form", ["plain", "int8", "int4", "fp8"])
@pytest.mark.parametrize("shape", [(0, 64), (2, 64), (3, 64), (2, 35, 64)])
def test_linear(form: str, shape: tuple[int, ...]) -> None:
    """Oracle: float64 of the numbers that the weight stands for: results, and gradients of inputs and weight."""
    weight = torch.randn(70, 64).bfloat16().requires_grad_() if form == "plain" else quantized(form, 70, 64)
    bias = torch.randn(70).bfloat16()
    numbers = weight.detach().double() if isinstance(weight, torch.Tensor) else weight.dequantize(torch.float64)
    x, dy = torch.randn(shape).bfloat16().requires_grad_(), torch.randn(*shape[:-1], 70).bfloat16()
    with dispatch.using("native"):
        y = linear(x, weight, bias)
    assert y.dtype == torch.bfloat16
    assert close(y.detach().double(), x.detach().double() @ numbers.t() + bias.double(), TOLERANCE)
    wanted = [(x, dy.double() @ numbers)]
    if isinstance(weight, torch.Tensor):
        wanted.append((weight, dy.double().reshape(-1, 70).t() @ x.detach().double().reshape(-1, 64)))
    for found, (_, gradient) in zip(torch.autograd.grad(y, [leaf for leaf, _ in wanted], dy), wanted, strict=True):
        assert close(found.double(), gradient, TOLERANCE)
