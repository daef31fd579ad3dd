"""Details of the published files: names, prefixes, buffers, spellings, and the hub's cache."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import braidlm
from braidlm import families
from braidlm.errors import SpecError
from tests.families.tiny import TINY, tiny

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("family", ["bamba", "granitemoehybrid", "hymba", "llama", "mamba", "mamba2", "stripedhyena"])
def test_export_has_the_published_tensors(family: str, tmp_path: Path) -> None:
    """Oracle: the tiny checkpoint's own file: every name, shape and value, saved buffers apart."""
    braidlm.load(GOLDEN / family).save(tmp_path / "out")
    expected = load_file(GOLDEN / family / "model.safetensors")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert set(expected) - set(found) == {name for name in expected if "inv_freq" in name}
    for name, tensor in found.items():
        assert tensor.shape == expected[name].shape
        assert torch.equal(tensor.float(), expected[name].float())


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_original_export_has_the_published_tensors(family: str, tmp_path: Path) -> None:
    """Oracle: the tiny pickled checkpoint in the state-spaces layout, the repeated head included."""
    source = GOLDEN / f"{family}_original"
    braidlm.load(source, allow_pickle=True).save(tmp_path / "out", f"{family}-original")
    expected, found = (
        torch.load(place / "pytorch_model.bin", weights_only=True) for place in (source, tmp_path / "out")
    )
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_published_config_keys_are_passed_on(tmp_path: Path) -> None:
    """Oracle: keys that do not change the computation, such as token ids, in the golden config."""
    braidlm.load(GOLDEN / "bamba").save(tmp_path / "out")
    before, after = (json.loads((p / "config.json").read_text()) for p in (GOLDEN / "bamba", tmp_path / "out"))
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "mamba_chunk_size", "attn_rotary_emb"):
        assert after[key] == before[key]


def rewritten(family: str, place: Path, change: Any, **config: Any) -> Path:
    """A copy of a golden checkpoint with other tensors and config values."""
    directory = Path(shutil.copytree(GOLDEN / family, place))
    tensors = change(load_file(directory / "model.safetensors"))
    save_file(tensors, directory / "model.safetensors")
    known = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(known | config))
    return directory


def test_stripedhyena_without_prefix_and_buffer(tmp_path: Path) -> None:
    """Oracle: the checkpoint with "backbone." and the rotary buffer, which the standalone file lacks."""
    kept = rewritten(
        "stripedhyena",
        tmp_path / "model",
        lambda t: {name.removeprefix("backbone."): v for name, v in t.items() if "inv_freq" not in name},
        hyena_layer_idxs=[0, 2, 4, 6],
    )
    ids = torch.arange(20)[None]
    expected = braidlm.load(GOLDEN / "stripedhyena", dtype="float32").forward(ids)
    assert torch.equal(braidlm.load(kept, dtype="float32").forward(ids), expected)


def test_tied_head_may_be_present(tmp_path: Path) -> None:
    """Oracle: the checkpoint without the repeated head."""
    repeated = rewritten(
        "hymba", tmp_path / "model", lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].clone()}
    )
    ids = torch.arange(20)[None]
    expected = braidlm.load(GOLDEN / "hymba").forward(ids)
    assert torch.equal(braidlm.load(repeated).forward(ids), expected)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("mamba2", {"time_step_limit": [0.0, {"__float__": "Infinity"}]}),
        ("granitemoehybrid", {"layer_types": ["linear_attention"] * 2 + ["full_attention", "linear_attention"] * 2}),
        ("bamba", {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
        ("bamba", {"attn_rotary_emb": None}),
        ("llama", {"head_dim": None}),
    ],
)
def test_other_spellings(family: str, changes: dict[str, Any]) -> None:
    """Oracle: the description of the golden config, which says the same in other words."""
    config = json.loads((GOLDEN / family / "config.json").read_text())
    reader = families.by_name(family)
    assert reader.read(config | changes) == reader.read(config)


def test_hub_cache_is_read_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the directory itself; the hub's client finds it in its cache, laid out as it lays out downloads."""
    cache = tmp_path / "models--someone--tiny-llama"
    shutil.copytree(GOLDEN / "llama", cache / "snapshots" / "abc123")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ids = torch.arange(9)[None]
    expected = braidlm.load(GOLDEN / "llama").forward(ids)
    assert torch.equal(braidlm.load("someone/tiny-llama").forward(ids), expected)


@pytest.mark.parametrize("family", TINY)
def test_every_format_refuses_what_it_cannot_say(family: str) -> None:
    """Oracle: a description with one block changed to something that no published format knows."""
    spec = tiny(family, 0).replace_block(0, residual_scale=0.75)
    with pytest.raises(SpecError):
        families.for_spec(spec)
