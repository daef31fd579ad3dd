"""GGUF files that braidlm writes: read back, and run by llama.cpp where it is installed."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from typer.testing import CliRunner

import braidlm
from braidlm.api import LanguageModel
from braidlm.cli.main import app
from braidlm.errors import InputError, SpecError
from braidlm.gguf_export import export_gguf
from braidlm.spec import Attention, FactorScaling, Mlp, ModelSpec, Rope
from tests.families.tiny import tiny
from tests.tolerances import RELATIVE_A_LOG, RELATIVE_LOGITS_GGUF_PEER

# Seeds of `tiny` that GGUF files can express: with experts, without, untied, with linear scaling, with biases.
EXPRESSED = [("mamba", 3), ("mamba", 5), ("mamba2", 0), ("mamba2", 2), ("mamba2", 4)]
EXPRESSED += [("granitemoehybrid", seed) for seed in range(4)] + [("llama", seed) for seed in (0, 1, 3, 5)]


def written(spec: ModelSpec, place: Path, dtype: str) -> tuple[LanguageModel, Path]:
    model, path = braidlm.build(spec, dtype=dtype), place / "model.gguf"
    export_gguf(model.network, path)
    return model, path


def test_the_seeds_cover_experts_ties_and_scalings() -> None:
    """Oracle: the descriptions themselves."""
    specs = [tiny(*which) for which in EXPRESSED]
    assert {spec.tied for spec in specs} == {True, False}
    assert {type(spec.blocks[0].ffn).__name__ for spec in specs} == {"NoneType", "Mlp", "Moe"}
    assert any(getattr(getattr(spec.blocks[0].mixer, "rope", None), "scaling", None) for spec in specs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("family", "seed"), EXPRESSED)
def test_read_back(family: str, seed: int, dtype: str, tmp_path: Path) -> None:
    """Oracle: the model that was written, bit for bit but for a logarithm that was undone and done again."""
    model, path = written(tiny(family, seed), tmp_path, dtype)
    again = dict(braidlm.load(path).network.named_parameters())
    assert again.keys() == dict(model.network.named_parameters()).keys()
    for name, parameter in model.network.named_parameters():
        assert again[name].dtype == parameter.dtype
        if name.endswith("a_log"):
            assert (again[name] - parameter).abs().max() <= RELATIVE_A_LOG * parameter.abs().max()
        else:
            assert torch.equal(again[name], parameter), name


def test_rotary_factors(tmp_path: Path) -> None:
    """Oracle: the description that was written; the factors are exact in float32."""
    rope = Rope(base=10000.0, dims=8, scaling=FactorScaling(factors=(1.0, 2.0, 4.0, 8.0)))
    spec = tiny("llama", 0)
    mixer = Attention(heads=4, kv_heads=2, head_dim=8, rope=rope)
    block = replace(spec.blocks[0], mixer=mixer, ffn=Mlp(hidden=24))
    _, path = written(replace(spec, blocks=(block,) * 2), tmp_path, "float32")
    assert braidlm.load(path).spec.blocks[1].mixer == mixer


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "F32"), ("bfloat16", "BF16"), ("float16", "F16")])
def test_only_matrices_are_rounded(dtype: str, kind: str, tmp_path: Path) -> None:
    """Oracle: the gguf package's view of the file; what ggml multiplies in float32 only is float32."""
    export_gguf(braidlm.build(tiny("granitemoehybrid", 1)).network, tmp_path / "model.gguf", dtype)
    wide = ("norm.weight", "ssm_a", "ssm_d", "bias", "conv1d.weight", "gate_inp.weight")
    for tensor in GGUFReader(tmp_path / "model.gguf").tensors:
        assert tensor.tensor_type.name == ("F32" if tensor.name.endswith(wide) else kind), tensor.name


@pytest.mark.parametrize("family", ["mistral", "hymba", "stripedhyena", "bamba"])
def test_what_gguf_cannot_say_is_refused(family: str, tmp_path: Path) -> None:
    """Oracle: the architectures' metadata, which has no word for windows, Hyena, parallel heads, part rotations."""
    with pytest.raises(SpecError, match="can express this model") as caught:
        written(tiny(family, 0), tmp_path, "float32")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    """Oracle: the sentence."""
    with pytest.raises(InputError, match="must be one of float32, bfloat16, float16"):
        export_gguf(braidlm.build(tiny("mamba", 3)).network, tmp_path / "model.gguf", "int8")


def test_on_the_command_line(tmp_path: Path) -> None:
    """Oracle: the function; nothing of the user's is overwritten."""
    model, path = written(tiny("mamba2", 0), tmp_path, "bfloat16")
    model.save(tmp_path / "model")
    arguments = ["convert", str(tmp_path / "model"), str(tmp_path / "again.gguf"), "--json"]
    result = CliRunner().invoke(app, arguments)
    said = json.loads(result.stdout)
    assert said["files"] == ["again.gguf"] and said["format"] == "gguf" and said["bytes"] == path.stat().st_size
    assert (tmp_path / "again.gguf").read_bytes() == path.read_bytes()
    refusal = CliRunner().invoke(app, arguments).exception
    assert isinstance(refusal, InputError) and "exists already" in str(refusal)


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize(("family", "seed"), EXPRESSED)
def test_llama_cpp_agrees(family: str, seed: int, tmp_path: Path) -> None:
    """Oracle: llama.cpp on the exported file."""
    from braidlm.bench.sides.llama_cpp_side import LlamaCpp  # noqa: PLC0415 (it needs the library)

    model, path = written(tiny(family, seed), tmp_path, "float32")
    ids = torch.arange(1, 21) % model.spec.vocab
    side = LlamaCpp()
    side.load(str(path), "f32", 1)
    found = side.last_logits(ids.tolist())
    expected = model.forward(ids[None])[0, -1].numpy()
    assert np.abs(found - expected).max() < RELATIVE_LOGITS_GGUF_PEER * np.abs(expected).max()
