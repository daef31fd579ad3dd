"""Quantized weights: what their bits stand for, rounding to them, products, embeddings and experts."""

import gguf
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gguf import GGMLQuantizationType as Kind
from torch import Tensor, nn

from braidlm import ops
from braidlm.errors import InputError
from braidlm.layers.linear import Embedding, Linear
from braidlm.model.assign import assign
from braidlm.ops.linear import reference
from braidlm.ops.linear.quantized import (
    GROUP,
    WEIGHT_FORMATS,
    QuantizedWeight,
    empty_quantized,
    nibbles,
    quantizable,
    quantized_bytes,
    steps,
)
from braidlm.ops.linear.round_to_nearest import quantize_weight
from braidlm.ops.moe.reference import moe
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED

SHAPES = [(1, 32), (7, 64), (3, 5, 96)]


def weight(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_lows(*shape: int) -> QuantizedWeight:
    """An int4 weight of random bits whose groups have lows."""
    made = empty_quantized(shape, "int4-low")
    made.data.copy_(torch.randint(256, made.data.shape))
    made.scale.copy_(weight(*made.scale.shape))
    made.low.copy_(weight(*made.scale.shape, seed=1))
    return made


def by_definition(quantized: QuantizedWeight) -> np.ndarray:
    """One number after the other, in float64."""
    rows, inputs = int(np.prod(quantized.shape[:-1])), quantized.shape[-1]
    data = quantized.data.view(rows, -1)
    data = data.float().numpy() if quantized.weight_format == "fp8" else data.numpy()
    scale = quantized.scale.view(rows, -1).double().numpy()
    found = np.empty((rows, inputs))
    for row in range(rows):
        for i in range(inputs):
            group, j = divmod(i, GROUP)
            if quantized.weight_format == "fp8":
                found[row, i] = data[row, i] * scale[row, 0]
            elif quantized.weight_format == "int8":
                found[row, i] = int(data[row, i]) * scale[row, group]
            else:
                byte = int(data[row, group * 16 + j % 16])
                q = byte & 15 if j < 16 else byte >> 4
                low = (
                    -8 * scale[row, group] if quantized.low is None else float(quantized.low.view(rows, -1)[row, group])
                )
                found[row, i] = q * scale[row, group] + low
    return found.reshape(quantized.shape)


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_the_bits_stand_for(weight_format: str, shape: tuple[int, ...]) -> None:
    """Oracle: the definition of each form, number by number in float64, rounded to float32."""
    quantized = quantize_weight(weight(*shape), weight_format)
    assert quantized.shape == shape
    assert torch.equal(quantized.dequantize(torch.float32), torch.from_numpy(by_definition(quantized)).float())
    assert torch.equal(quantized.dequantize(), quantized.dequantize(torch.float32).bfloat16())


def test_lows() -> None:
    """Oracle: the definition in float64."""
    quantized = with_lows(6, 64)
    expected = torch.from_numpy(by_definition(quantized)).float()
    error = (quantized.dequantize(torch.float32) - expected).abs().max() / expected.abs().max()
    assert error < RELATIVE_OP[torch.float32]
    assert (quantized.weight_format, quantized.kind) == ("int4", "int4-low")


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1], ids=lambda kind: kind.name)
def test_the_layout_is_that_of_gguf(kind: Kind) -> None:
    """Oracle: the bytes of GGUF's blocks, in order: scale, low, numbers; and gguf.dequantize of them, bit for bit."""
    raw = gguf.quantize(weight(6, 96).numpy(), kind)
    lows = 2 if kind == Kind.Q4_1 else 0
    blocks = torch.from_numpy(raw).view(6, 3, -1)
    halves = blocks[..., : 2 + lows].contiguous().view(torch.float16)
    data = blocks[..., 2 + lows :].flatten(-2)
    weight_format = "int8" if kind == Kind.Q8_0 else "int4"
    data = data.view(torch.int8) if weight_format == "int8" else data
    quantized = QuantizedWeight(weight_format, data, halves[..., 0], halves[..., 1] if lows else None)
    assert quantized.dequantize(torch.float32).numpy().tobytes() == gguf.dequantize(raw, kind).tobytes()
    assert quantized.nbytes == raw.nbytes


def test_half_bytes_and_back() -> None:
    """Oracle: the layout, byte by byte; and the way back."""
    q = torch.randint(16, (3, 64), dtype=torch.uint8)
    data = nibbles(q)
    for row, group, j in ((0, 0, 0), (1, 1, 5), (2, 0, 15)):
        byte = int(data[row, group * 16 + j])
        assert byte == int(q[row, group * 32 + j]) + 16 * int(q[row, group * 32 + j + 16])
    assert torch.equal(steps(data), q)


def test_nearest_steps() -> None:
    """Oracle: no other step of the same scale is nearer."""
    x = weight(5, 128)
    for weight_format, highest in (("int8", 127), ("int4", 7)):
        quantized = quantize_weight(x, weight_format)
        unit = quantized.scale.float().abs().repeat_interleave(GROUP, -1)
        inside = (quantized.dequantize(torch.float32) / unit).abs() < highest
        error = (quantized.dequantize(torch.float32) - x).abs()
        assert bool((error <= unit / 2 * (1 + 1e-5))[inside].all())
    quantized = quantize_weight(x, "fp8")
    assert float(((quantized.dequantize(torch.float32) - x).abs() / x.abs().amax(-1, keepdim=True)).max()) < 2**-4


@pytest.mark.parametrize("seed", range(3))
def test_int4_is_nearer_than_a_plain_scale(seed: int) -> None:
    """Oracle: GGUF's Q4_0, whose scale puts a group's largest number on step -8: by squared error of each group."""
    x = weight(64, 256, seed=seed) * torch.rand(64, 1)
    plain = torch.from_numpy(gguf.dequantize(gguf.quantize(x.numpy(), Kind.Q4_0), Kind.Q4_0))
    actual = quantize_weight(x, "int4")
    assert actual.nbytes == gguf.quantize(x.numpy(), Kind.Q4_0).nbytes

    def errors(found: Tensor) -> Tensor:
        return (found - x).square().unflatten(-1, (-1, GROUP)).sum(-1)

    found, wanted = errors(actual.dequantize(torch.float32)), errors(plain)
    assert bool((found <= wanted * (1 + 1e-5)).all())
    assert float(found.sum()) < 0.9 * float(wanted.sum())


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_what_has_a_form_keeps_it(weight_format: str) -> None:
    """Oracle: numbers that lie on the form's own grid, zeros and single numbers among them, come back unchanged."""
    x = torch.zeros(4, 64)
    x[1, 3] = 0.75
    x[2, 32:] = -1.5
    x[3] = torch.arange(-8, 8).repeat(4) / 8
    if weight_format == "int4":
        assert torch.equal(quantize_weight(x, weight_format).dequantize(torch.float32), x)
    quantized = quantize_weight(x, weight_format)
    again = quantize_weight(quantized.dequantize(torch.float32), weight_format)
    assert torch.equal(again.dequantize(torch.float32), quantized.dequantize(torch.float32))
    assert torch.equal(quantized.dequantize(torch.float32)[0], x[0])


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_sizes(weight_format: str) -> None:
    """Oracle: bits a weight: 8.5, 4.5, and 8 with four bytes a row."""
    quantized = quantize_weight(weight(16, 320), weight_format)
    assert (
        quantized.nbytes
        == {"int8": 16 * 340, "int4": 16 * 180, "fp8": 16 * 324}[weight_format]
        == quantized_bytes((16, 320), weight_format)
    )
    assert quantized_bytes((16, 320), "int4-low") == 16 * 200 == with_lows(16, 320).nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weight_format", [*WEIGHT_FORMATS, "int4-low"])
def test_products(weight_format: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the product with the dequantized weight; in tiles, bit for bit where sums are in one order."""
    quantized = with_lows(37, 64) if weight_format == "int4-low" else quantize_weight(weight(37, 64), weight_format)
    x, bias = weight(2, 3, 64).to(dtype), weight(37).to(dtype)
    expected = F.linear(x, quantized.dequantize(dtype), bias)
    with ops.dispatch.using("reference"):
        assert torch.equal(ops.linear(x, quantized, bias), expected)
        monkeypatch.setattr(reference, "SCRATCH_BYTES", 8000)
        error = (ops.linear(x, quantized, bias) - expected).abs().max() / expected.abs().max()
    assert error <= RELATIVE_ROUNDED[torch.bfloat16]
    assert ops.linear(x, quantized).dtype == dtype


def test_scratch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the sizes of the tiles that are asked for."""
    quantized = quantize_weight(weight(40, 64), "int4")
    seen: list[int] = []
    whole = QuantizedWeight.dequantize

    def counted(self: QuantizedWeight, dtype: torch.dtype | None = None) -> Tensor:
        seen.append(self.shape.numel() * 10)
        return whole(self, dtype)

    monkeypatch.setattr(QuantizedWeight, "dequantize", counted)
    monkeypatch.setattr(reference, "SCRATCH_BYTES", 6400)
    reference.linear(weight(2, 64), quantized, None)
    assert max(seen) <= 6400
    assert sum(seen) == 40 * 64 * 10
    assert reference.SCRATCH_BYTES <= 64 << 20


def test_gradients_pass_through() -> None:
    """Oracle: autograd on the dequantized weight."""
    quantized = quantize_weight(weight(8, 32), "int4")
    x = weight(3, 32).requires_grad_()
    with ops.dispatch.using("reference"):
        ops.linear(x, quantized).square().sum().backward()
    again = x.detach().clone().requires_grad_()
    F.linear(again, quantized.dequantize(torch.float32)).square().sum().backward()
    assert torch.equal(x.grad, again.grad)


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_experts(weight_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same experts as plain weights; those that nobody chose are never dequantized."""
    router, x = weight(6, 32), weight(2, 32)
    gate_up, down = (
        quantize_weight(weight(6, 64, 32), weight_format),
        quantize_weight(weight(6, 32, 32, seed=1), weight_format),
    )
    expected = moe(x, router, gate_up.dequantize(torch.float32), down.dequantize(torch.float32), top_k=2)
    calls: list[torch.Size] = []
    whole = QuantizedWeight.dequantize

    def counted(self: QuantizedWeight, dtype: torch.dtype | None = None) -> Tensor:
        calls.append(self.shape)
        return whole(self, dtype)

    monkeypatch.setattr(QuantizedWeight, "dequantize", counted)
    with ops.dispatch.using("reference"):
        assert torch.equal(moe(x, router, gate_up, down, top_k=2), expected)
    chosen = len(F.linear(x, router).topk(2).indices.unique())
    assert len(calls) == 2 * chosen < 12
    assert set(calls) == {torch.Size([64, 32]), torch.Size([32, 32])}


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_modules(weight_format: str) -> None:
    """Oracle: the module with the dequantized weight."""
    linear, embedding = Linear(64, 16, bias=True), Embedding(16, 64)
    x, ids = weight(3, 64), torch.tensor([3, 0, 15, 3])
    quantized = quantize_weight(weight(16, 64), weight_format, dtype=torch.float32)
    linear.bias = nn.Parameter(weight(16, seed=2))
    for module in (linear, embedding):
        assign(module, "weight", quantized)
    with ops.dispatch.using("reference"):
        assert torch.equal(linear(x), F.linear(x, quantized.dequantize(), linear.bias))
    assert torch.equal(embedding(ids), quantized.dequantize()[ids])
    assert not isinstance(dict(linear.named_parameters()).get("weight"), nn.Parameter)
    assign(linear, "weight", weight(16, 64))
    assert torch.equal(linear(x), F.linear(x, weight(16, 64), linear.bias))


def test_parts_share_memory() -> None:
    """Oracle: addresses."""
    quantized = quantize_weight(weight(4, 8, 64), "int4")
    part = quantized[2]
    assert part.shape == (8, 64)
    assert part.data.data_ptr() == quantized.data[2].data_ptr()
    assert part.scale.data_ptr() == quantized.scale[2].data_ptr()
    assert torch.equal(part.dequantize(), quantized.dequantize()[2])


def test_a_cast_keeps_the_form() -> None:
    """Oracle: the formats of the definition, after what casts every other floating number."""
    for weight_format in WEIGHT_FORMATS:
        quantized = quantize_weight(weight(4, 64), weight_format)
        before = quantized.dequantize(torch.float32)
        nn.Sequential(quantized).double().half()
        assert torch.equal(quantized.dequantize(torch.float32), before)
        assert quantized.to("meta").device.type == "meta"


def test_shapes_that_fit() -> None:
    """Oracle: the definition: whole groups of 32 inputs, but any number for fp8."""
    assert quantizable((4, 64), "int4")
    assert not quantizable((4, 48), "int4")
    assert quantizable((4, 48), "fp8")
    assert not quantizable((64,), "int8")
    assert not quantizable((0, 64), "int8")


def test_refusals() -> None:
    """Oracle: one sentence with what was wrong and what would be right."""
    x = weight(4, 64)
    for wrong, weight_format, words in (
        (x, "int3", "int8, int4, fp8"),
        (x[:, :48], "int4", "groups of 32"),
        (x * torch.inf, "int8", "cannot hold"),
        (x * torch.nan, "fp8", "cannot hold"),
        (x * 1e6, "int4", "cannot hold"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            quantize_weight(wrong, weight_format)
        assert "\n" not in str(caught.value)
