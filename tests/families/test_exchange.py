"""Export and import: names both ways, bit for bit, and transformers as the reader of what we write."""

import json
from pathlib import Path

import pytest
import torch
import transformers

import braidlm
from braidlm import families
from braidlm.api.language_model import LanguageModel
from braidlm.families.presets import PRESETS, preset
from tests.families.tiny import TINY, tiny
from tests.tolerances import RELATIVE_LOGITS

TRANSFORMERS = [
    "mamba", "falcon_mamba", "mamba2", "bamba", "granite", "granitemoehybrid", "llama", "mistral",
]  # fmt: skip
SEEDS = range(6)
# One token, below and at the convolution's length, around the borders of chunks.
LENGTHS = (1, 2, 3, 5, 63, 64, 65, 129)


def same_weights(one: LanguageModel, other: LanguageModel) -> bool:
    """Whether all parameters agree in name, dtype and every bit."""
    first, second = dict(one.network.named_parameters()), dict(other.network.named_parameters())
    return first.keys() == second.keys() and all(
        t.dtype == second[name].dtype and torch.equal(t, second[name]) for name, t in first.items()
    )


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # experts without a shared MLP
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", TRANSFORMERS)
def test_transformers_agrees(family: str, seed: int, tmp_path: Path) -> None:
    """Oracle: transformers' logits on the directory that we wrote; then our reading of what it writes back."""
    model = braidlm.build(tiny(family, seed), seed=seed)
    model.save(tmp_path / "braidlm")
    reader = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "braidlm", dtype=torch.float32, attn_implementation="eager"
    )
    generator = torch.Generator().manual_seed(seed)
    for length in LENGTHS:
        ids = torch.randint(model.spec.vocab, (2, length), generator=generator)
        with torch.no_grad():
            expected = reader(ids, use_cache=False).logits
        error = (model.forward(ids) - expected).abs().max() / expected.abs().max()
        assert error < RELATIVE_LOGITS[torch.float32], length
    reader.save_pretrained(tmp_path / "transformers")
    again = braidlm.load(tmp_path / "transformers", dtype="float32")
    assert again.spec == model.spec
    assert same_weights(again, model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("form", ["hf", "braidlm"])
def test_export_imports_bit_equal(family: str, form: str, dtype: str, tmp_path: Path) -> None:
    """Oracle: the model that was exported."""
    model = braidlm.build(tiny(family, 1), seed=3, dtype=dtype)
    model.save(tmp_path / "out", form)
    again = braidlm.load(tmp_path / "out")
    assert again.spec == model.spec
    assert same_weights(again, model)
    if form == "hf":
        again.save(tmp_path / "again")
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
            tmp_path / "again" / "model.safetensors"
        ).read_bytes()


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_original_layout(family: str, tmp_path: Path) -> None:
    """Oracle: the model that was exported to the state-spaces layout and back."""
    spec = next(s for s in (tiny(family, seed) for seed in range(20)) if s.tied and s.norm.eps == 1e-5)
    model = braidlm.build(spec)
    model.save(tmp_path / "out", f"{family}-original")
    assert sorted(torch.load(tmp_path / "out" / "pytorch_model.bin", weights_only=True))[-1] == "lm_head.weight"
    assert same_weights(braidlm.load(tmp_path / "out", allow_pickle=True), model)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_round_trips(name: str) -> None:
    """Oracle: the published config: written from our description, it reads as the same description."""
    spec = preset(name).spec
    family, config = families.for_spec(spec)
    assert family.read(json.loads(json.dumps(config))) == spec


def test_inexpressible_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Oracle: a Llama with a Mamba-2 block exists in no published format, but in ours."""
    spec = tiny("llama", 0)
    mixed = spec.replace_block(1, mixer=tiny("mamba2", 0).blocks[0].mixer)
    model = braidlm.build(mixed)
    with pytest.raises(braidlm.BraidError, match="no published format"):
        model.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    model.save(tmp_path / "own", "braidlm")
    assert same_weights(braidlm.load(tmp_path / "own"), model)


def test_sharded_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same model saved in one file."""
    monkeypatch.setattr("braidlm.checkpoints.binding.SHARD_BYTES", 20_000)
    model = braidlm.build(tiny("llama", 0))
    model.save(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 2
    assert same_weights(braidlm.load(tmp_path / "out"), model)
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").num_parameters() == sum(
        parameter.numel() for parameter in model.network.parameters()
    )
