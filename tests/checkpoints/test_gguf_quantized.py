"""Quantized GGUF tensors as quantized weights: the same numbers, rows in our order."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

import braidlm
from braidlm.checkpoints.gguf import GgufFile
from braidlm.checkpoints.gguf_quantized import keep
from braidlm.errors import InputError
from braidlm.families import Rule
from braidlm.families.names import joined, mapped, paired_rows, rename, reshape, split
from braidlm.ops.linear.quantized import QuantizedWeight
from tests.checkpoints.gguf_files import numbers, parts, path_of, refused, write
from tests.tolerances import RELATIVE_INT8_STEP, RELATIVE_ROUNDED

EXACT = {Kind.Q8_0: "int8", Kind.Q4_0: "int4", Kind.Q4_1: "int4-low"}
REQUANTIZED = (Kind.Q5_0, Kind.Q5_1, Kind.Q6_K, Kind.Q5_K, Kind.IQ4_XS)


def stored(kind: Kind, *shape: int, seed: int = 0) -> np.ndarray:
    """Blocks of a kind: made from random numbers where gguf can, else random bytes with sensible scales."""
    try:
        return gguf.quantize(numbers(*shape, seed=seed), kind)
    except NotImplementedError:
        size = gguf.quant_shape_to_byte_shape(shape, kind)
        return np.random.default_rng(seed).integers(0, 100, size, dtype=np.uint8)


def file_of(path: Path, **tensors: tuple[np.ndarray, Kind]) -> GgufFile:
    return GgufFile(write(path / "file.gguf", "llama", {}, tensors))


def kept(file: GgufFile, rule: Rule, *shapes: tuple[int, ...]) -> list[QuantizedWeight] | None:
    return keep(file, rule, rule.source, [torch.Size(shape) for shape in shapes], torch.float32)


@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.name)
@pytest.mark.parametrize("shape", [(5, 64), (2, 3, 96)], ids=str)
def test_the_same_numbers(kind: Kind, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Oracle: gguf.dequantize of the same bytes, bit for bit, in as many bytes."""
    raw = stored(kind, *shape)
    (found,) = kept(file_of(tmp_path, t=(raw, kind)), rename("t", "w"), shape)
    assert (found.kind, found.shape, found.nbytes) == (EXACT[kind], shape, raw.nbytes)
    assert found.dequantize().numpy().tobytes() == gguf.dequantize(raw, kind).tobytes()
    assert all(part.is_contiguous() for part in found.buffers())


def test_k_quants_round_their_scales_alone(tmp_path: Path) -> None:
    """Oracle: gguf.dequantize: w = scale q + low, both products of two numbers, here rounded to half precision."""
    raw = stored(Kind.Q4_K, 6, 512)
    raw.reshape(6, 2, 144)[..., :4] = (
        np.random.default_rng(1).uniform(0.001, 0.1, (6, 2, 2)).astype("<f2").view(np.uint8)
    )
    (found,) = kept(file_of(tmp_path, t=(raw, Kind.Q4_K)), rename("t", "w"), (6, 512))
    assert found.kind == "int4-low"
    expected = torch.from_numpy(gguf.dequantize(raw, Kind.Q4_K)).unflatten(-1, (-1, 32))
    error = (found.dequantize().unflatten(-1, (-1, 32)) - expected).abs().amax(-1)
    # What is rounded is at most the largest of the two parts.
    largest = (found.scale.float() * 15).abs() + found.low.float().abs()
    assert bool((error <= RELATIVE_ROUNDED[torch.float16] * largest).all())


@pytest.mark.parametrize("kind", REQUANTIZED, ids=lambda kind: kind.name)
def test_other_kinds_get_finer_steps(kind: Kind, tmp_path: Path) -> None:
    """Oracle: gguf.dequantize: off by at most half a step of int8."""
    raw = stored(kind, 4, 512)
    (found,) = kept(file_of(tmp_path, t=(raw, kind)), rename("t", "w"), (4, 512))
    expected = torch.from_numpy(gguf.dequantize(raw, kind)).unflatten(-1, (-1, 32))
    error = (found.dequantize().unflatten(-1, (-1, 32)) - expected).abs().amax(-1)
    assert found.kind == "int8"
    assert bool((error <= RELATIVE_INT8_STEP * expected.abs().amax(-1)).all())


RULES = {
    "rows of pairs": (paired_rows("t", "w", 2), [(12, 64)]),
    "cut": (split("t", "v", "w"), [(5, 64), (7, 64)]),
    "another shape": (reshape("t", "w", 0, -1), [(3, 4, 64)]),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.name)
def test_rules_that_move_rows(name: str, kind: Kind, tmp_path: Path) -> None:
    """Oracle: the rule applied to the dequantized tensor."""
    rule, shapes = RULES[name]
    file = file_of(tmp_path, t=(stored(kind, 12, 64), kind))
    found = kept(file, rule, *shapes)
    expected = rule.read([file.get("t")], [torch.Size(shape) for shape in shapes])
    for quantized, tensor in zip(found, expected, strict=True):
        assert torch.equal(quantized.dequantize(), tensor)


@pytest.mark.parametrize("kinds", [(Kind.Q4_0, Kind.Q4_0), (Kind.Q4_1, Kind.Q4_1), (Kind.Q4_0, Kind.Q8_0)], ids=str)
def test_rules_that_join(kinds: tuple[Kind, Kind], tmp_path: Path) -> None:
    """Oracle: the rule applied to the dequantized tensors; halves of different kinds meet in int8."""
    file = file_of(tmp_path, **{n: (stored(k, 3, 4, 64, seed=i), k) for i, (n, k) in enumerate(zip("ab", kinds))})
    rule = joined("a", "b", "w", dim=1)
    (found,) = kept(file, rule, (3, 8, 64))
    (expected,) = rule.read([file.get("a"), file.get("b")], [torch.Size((3, 8, 64))])
    if kinds[0] == kinds[1]:
        assert torch.equal(found.dequantize(), expected)
    else:
        error = (found.dequantize() - expected).unflatten(-1, (-1, 32)).abs().amax(-1)
        largest = expected.unflatten(-1, (-1, 32)).abs().amax(-1)
        assert bool((error <= RELATIVE_INT8_STEP * largest).all())


def test_rules_that_compute(tmp_path: Path) -> None:
    """Oracle: numbers that are changed, or turned, are not the file's own."""
    file = file_of(tmp_path, t=(stored(Kind.Q8_0, 64, 64), Kind.Q8_0), plain=(numbers(4, 64), Kind.F32))
    assert kept(file, mapped("t", "w", lambda t: -t, lambda t: -t), (64, 64)) is None
    assert kept(file, mapped("t", "w", lambda t: t.T, lambda t: t.T), (64, 64)) is None
    assert kept(file, rename("plain", "w"), (4, 64)) is None
    assert kept(file, rename("t", "w"), (64, 32)) is None


@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["llama", "mamba2", "granitehybrid"])
def test_a_whole_model(name: str, kind: Kind, tmp_path: Path) -> None:
    """Oracle: the same file loaded as plain float32, weight by weight, and the logits of it."""
    arch, metadata, tensors = parts(name)
    small = {n: t for n, t in tensors.items() if t.ndim > 1 and t.shape[-1] % 32 == 0 and "conv1d" not in n}
    small = {
        n: t for n, t in small.items() if "ffn_gate_inp" not in n and not n.endswith(("ssm_a", "ssm_d", "norm.weight"))
    }
    path = write(
        tmp_path / "file.gguf", arch, metadata, tensors | {n: (gguf.quantize(t, kind), kind) for n, t in small.items()}
    )
    plain, quantized = braidlm.load(path), braidlm.load(path, dtype="float32", quantize="keep")
    found = {n: m for n, m in quantized.network.named_modules() if isinstance(m, QuantizedWeight)}
    assert "embed.weight" in found
    assert {weight.kind for weight in found.values()} == {EXACT[kind]}
    for weight_name, weight in found.items():
        assert torch.equal(weight.dequantize(), plain.network.get_parameter(weight_name))
    for weight_name, weight in quantized.network.named_parameters():
        assert torch.equal(weight, plain.network.get_parameter(weight_name))
    plain.ops = quantized.ops = "reference"
    ids = torch.arange(20)[None]
    assert torch.equal(quantized.forward(ids), plain.forward(ids))
    assert quantized.network.dtype == torch.float32
    assert braidlm.load(path, quantize="keep").network.dtype == torch.bfloat16


def test_nothing_to_keep() -> None:
    """Oracle: the sentence."""
    refused(lambda: braidlm.load(path_of("llama"), quantize="keep"), InputError, "no quantized tensor", "int4")
