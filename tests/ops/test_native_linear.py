"""Products with quantized weights in C++, at every level."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from braidlm.ops import dispatch, linear, native_loader
from braidlm.ops.linear import native, reference
from braidlm.ops.linear.quantized import WEIGHT_FORMATS
from tests.ops.carried import close
from tests.ops.levels import LEVELS, at_level
from tests.ops.quantized import quantized
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED

pytestmark = pytest.mark.skipif(native_loader.why_not() is not None, reason="the extension is not built")

TOLERANCE = {torch.float32: RELATIVE_OP[torch.float32], torch.bfloat16: 2 * RELATIVE_ROUNDED[torch.bfloat16]}
DTYPES = list(TOLERANCE)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    with at_level(request.param), dispatch.using("native"):
        yield request.param


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [*WEIGHT_FORMATS, "int4-low"])
def test_numbers(kind: str, dtype: torch.dtype, level: str) -> None:
    """Oracle: `QuantizedWeight.dequantize`, bit for bit: from any output on, rows at any distance, any threads."""
    inputs = 45 if kind == "fp8" else 96
    weight = quantized(kind, 37, inputs)
    for begin, end, threads in ((0, 37, 1), (5, 37, 2), (36, 37, 3), (7, 7, 2)):
        out = torch.full((end - begin, inputs + 3), torch.nan, dtype=dtype)
        native.held(weight).expand(begin, out[:, :inputs], threads)
        assert torch.equal(out[:, :inputs], weight.dequantize(dtype)[begin:end])
        assert out[:, inputs:].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["plain", *WEIGHT_FORMATS, "int4-low"])
def test_multiply(kind: str, dtype: torch.dtype, level: str) -> None:
    """Oracle: float64 of the dequantized weight; and for each row the bits that it has alone, on any threads."""
    for outputs, inputs, tokens in ((1, 32, 1), (37, 96, 5), (150, 544, 70), (9, 288, 600)):
        weight = torch.randn(outputs, inputs).bfloat16() if kind == "plain" else quantized(kind, outputs, inputs)
        numbers = weight.double() if isinstance(weight, Tensor) else weight.dequantize(torch.float64)
        x = torch.randn(tokens, inputs + 3).to(dtype)[:, :inputs]
        y = torch.full((tokens, outputs + 2), torch.nan, dtype=dtype)
        native.held(weight).multiply(x, y[:, :outputs], 2)
        assert y[:, outputs:].isnan().all()
        assert close(y[:, :outputs].double(), x.double() @ numbers.t(), TOLERANCE[dtype])
        alone = torch.empty(1, outputs, dtype=dtype)
        for token in (0, tokens // 2, tokens - 1):
            native.held(weight).multiply(x[token : token + 1], alone, 1)
            assert torch.equal(alone[0], y[token, :outputs])


@pytest.mark.parametrize("limit", [1 << 10, 1 << 26])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_products(
    weight_format: str, dtype: torch.dtype, limit: int, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the reference, whose tiles are the same numbers; many tiles and one."""
    monkeypatch.setattr(reference, "SCRATCH_BYTES", limit)
    weight, bias = quantized(weight_format, 70, 64), torch.randn(70).to(dtype)
    for shape in ((64,), (3, 64), (2, 5, 64), (0, 64)):
        x = torch.randn(shape).to(dtype)
        found, expected = linear(x, weight, bias), reference.linear(x, weight, bias)
        assert found.shape == expected.shape
        assert found.dtype == dtype
        assert close(found.double(), expected.double(), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [1 << 10, 1 << 26])
def test_gradients(dtype: torch.dtype, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: autograd through the dequantized weight; tiles that were overwritten must not matter."""
    monkeypatch.setattr(reference, "SCRATCH_BYTES", limit)
    weights = [quantized("int4", 64, 64) for _ in range(3)]

    def through(x: Tensor, implementation: str) -> Tensor:
        for weight in weights:
            x = linear(x, weight, None) if implementation == "native" else x @ weight.dequantize(dtype).T
        return x

    x, dy = torch.randn(9, 64).to(dtype).requires_grad_(), torch.randn(9, 64).to(dtype)
    with dispatch.using("native"):
        (found,) = torch.autograd.grad(through(x, "native"), x, dy)
    (expected,) = torch.autograd.grad(through(x, "plain"), x, dy)
    assert found.dtype == dtype
    assert close(found.double(), expected.double(), TOLERANCE[dtype])


def test_refusals() -> None:
    """Oracle: no output that does not exist, and no table of another shape or dtype, reaches a pointer."""
    weight = native.held(quantized("int8", 8, 32))
    wrong = {
        "outputs": [(1, torch.empty(8, 32)), (-1, torch.empty(1, 32))],
        "shape": [(0, torch.empty(8, 31))],
        "float32": [(0, torch.empty(8, 32, dtype=torch.float64))],
    }
    for said, calls in wrong.items():
        for begin, out in calls:
            with pytest.raises(ValueError, match=said):
                weight.expand(begin, out, 1)
    x, y = torch.empty(3, 32), torch.empty(3, 8)
    for said, *call in (
        ("x must have the shape", x[:, 1:], y),
        ("y must have the shape", x, y[1:]),
        ("y must be float32", x, y.double()),
        ("contiguous rows", torch.empty(32, 3).t(), y),
    ):
        with pytest.raises(ValueError, match=said):
            weight.multiply(*call, 1)
    with pytest.raises(ValueError, match="one by one"):
        native.held(torch.randn(2, 8, 32)).multiply(x, y, 1)
