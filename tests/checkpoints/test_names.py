"""The text model's tensors among what files of tools hold: prefixes, buffers, towers, layers too many."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import braidlm
from braidlm.api import loading
from braidlm.checkpoints.published import read_published
from braidlm.errors import CheckpointError, LoadingWarning
from tests.checkpoints.files import Tensors, digest_of, edit_config, edit_tensors, logits_of, tiny_checkpoint
from tests.families.tiny import tiny
from tests.tolerances import RELATIVE_LOGITS

FAMILIES = ("mamba", "mamba2", "stripedhyena", "hymba", "bamba", "granitemoehybrid", "llama")
# What the layers' names begin with, without the words in front.
LAYERS = {"stripedhyena": "blocks"}


def first_word(family: str) -> str:
    return "backbone" if family in ("mamba", "mamba2", "stripedhyena") else "model"


def without(word: str) -> Callable[[str], str]:
    return lambda name: name.removeprefix(f"{word}.")


def inside(name: str) -> str:
    """As torch.compile and FSDP leave it in names of single layers."""
    words = name.split(".")
    return ".".join([*words[:3], "_orig_mod", *words[3:]]) if len(words) > 4 else name


PREFIXES: dict[str, Callable[[str], str]] = {
    "_orig_mod": lambda name: f"_orig_mod.{name}",
    "module": lambda name: f"module.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "peft, merged": lambda name: f"base_model.model.{name}",
    "language_model": lambda name: f"language_model.{name}",
    "inside": inside,
    "transformers 5, nested": lambda name: (
        name if name.startswith("lm_head") else f"model.language_model.{name.partition('.')[2]}"
    ),
    "smolvlm": lambda name: name if name.startswith("lm_head") else f"model.text_model.{name.partition('.')[2]}",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_prefixes(family: str, tmp_path: Path) -> None:
    """Oracle: the weights of the checkpoint under its own names, to the bit."""
    directory = tiny_checkpoint(tmp_path / "model", family)
    expected = digest_of(directory)
    file = directory / "model.safetensors"
    own = file.read_bytes()
    renames = PREFIXES | {"a base model's": without(first_word(family))}
    for kind, rename in renames.items():
        file.write_bytes(own)
        edit_tensors(directory, lambda tensors, rename=rename: {rename(k): v for k, v in tensors.items()})  # type: ignore[misc]
        assert digest_of(directory) == expected, kind


def test_twice_under_two_names(tmp_path: Path) -> None:
    """Oracle: the sentence, which names both: no tensor is chosen silently."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    edit_tensors(directory, lambda tensors: tensors.update({"norm.weight": tensors["model.norm.weight"] * 2}))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight and norm\.weight are both"):
        braidlm.load(directory)


@pytest.mark.parametrize("family", FAMILIES)
def test_buffers(family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the weights without them; their names at debug level, and no warning (which would be an error here)."""
    directory = tiny_checkpoint(tmp_path / "model", family)
    expected = digest_of(directory)
    layer = f"{first_word(family)}.{LAYERS.get(family, 'layers')}"
    buffers: Tensors = {
        "model.rotary_emb.inv_freq": torch.ones(4),
        f"{layer}.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        f"{layer}.1.self_attn.rotary_emb.cos_cached": torch.ones(1, 1, 8, 4),
        f"{layer}.1.inner_mha_cls.rotary_emb.inv_freq": torch.ones(4),
        f"{layer}.0.attn.masked_bias": torch.tensor(-1e9),
        f"{layer}.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool).tril(),
        f"{layer}.99.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "masked_bias": torch.tensor(-1e9),
        "position_ids": torch.arange(8),
        f"{layer}.0.nothing.weight": torch.ones(0, 8),
    }
    edit_tensors(directory, lambda tensors: tensors.update(buffers))
    with caplog.at_level(logging.DEBUG, "braidlm.loading"):
        assert digest_of(directory) == expected
    for name in buffers:
        assert name in caplog.text, name
    assert all(record.levelno == logging.DEBUG for record in caplog.records if record.name == "braidlm.loading")


def test_a_bias_is_no_mask(tmp_path: Path) -> None:
    """Oracle: the sentence: what has the name of a mask and not its shape is refused."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    edit_tensors(directory, lambda tensors: tensors.update({"model.layers.0.attn.bias": torch.ones(8)}))
    with pytest.raises(CheckpointError, match=r"model\.layers\.0\.attn\.bias belongs to no parameter"):
        braidlm.load(directory)


@pytest.mark.parametrize(
    "name",
    [
        "mtp.layers.0.self_attn.q_proj.weight",
        "model.mtp.norm.weight",
        "mtp_block.weight",
        "nextn.eh_proj.weight",
        "vision_tower.vision_model.encoder.layers.40.mlp.fc1.weight",
        "model.vision_tower.patch_embed.weight",
        "vision_model.layers.0.norm.weight",
        "visual.blocks.0.attn.qkv.weight",
        "vision_encoder.ln.weight",
        "multi_modal_projector.linear_1.weight",
        "model.multi_modal_projector.linear_1.weight",
        "audio_tower.conv1.weight",
        "score.weight",
        "v_head.summary.weight",
        "medusa_head.0.0.linear.weight",
        "module.score.weight",
    ],
)
def test_heads_and_towers(name: str, tmp_path: Path) -> None:
    """Oracle: the weights without them, in their own dtype; one warning that names the part."""
    directory = tiny_checkpoint(tmp_path / "model", "llama", dtype="bfloat16")
    expected = digest_of(directory)
    edit_tensors(directory, lambda tensors: tensors.update({name: torch.ones(300, 400, dtype=torch.int8)}))
    part = next(word for word in name.split(".") if word not in ("model", "module"))
    with pytest.warns(LoadingWarning, match=rf"no part of the text model: {part} \(1 tensor\)$") as told:
        found = digest_of(directory)
    assert found == expected
    assert len(told) == 1
    assert told[0].filename == str(Path(__file__).with_name("files.py"))  # where braidlm was called


def test_a_warning_that_stays_short(tmp_path: Path) -> None:
    """Oracle: by hand: parts are named with their numbers of tensors, and cut."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    many = {f"vision_{part:03d}.{i}.weight": torch.ones(1) for part in range(100) for i in range(2)}
    edit_tensors(directory, lambda tensors: tensors.update(many))
    with pytest.warns(LoadingWarning, match=r"vision_000 \(2 tensors\), vision_001 .* and 94 more$"):
        braidlm.load(directory)


@pytest.mark.parametrize("name", ["model.visible.weight", "scored.weight", "lm_head.bias", "model.layers.0.mtp.weight"])
def test_others_are_refused(name: str, tmp_path: Path) -> None:
    """Oracle: the tensor's name."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    edit_tensors(directory, lambda tensors: tensors.update({name: torch.ones(3)}))
    with pytest.raises(CheckpointError, match=f"tensor {name} belongs to no parameter"):
        braidlm.load(directory)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_too_many(family: str, tmp_path: Path) -> None:
    """Oracle: the sentence: layers that the config does not count are never left out silently."""
    directory = tiny_checkpoint(tmp_path / "model", family)
    layers = len(loading.read_spec(directory).blocks)
    stem = f"{first_word(family)}.{LAYERS.get(family, 'layers')}"

    def more(tensors: Tensors) -> None:
        of_first = {name: tensor for name, tensor in tensors.items() if f".{stem.split('.')[1]}.0." in name}
        tensors.update({name.replace(".0.", f".{layers}.", 1): tensor.clone() for name, tensor in of_first.items()})

    edit_tensors(directory, more)
    with pytest.raises(
        CheckpointError, match=rf"of layer {layers}, but the config says that there are {layers} layers"
    ):
        braidlm.load(directory)


def test_layers_that_predict_ahead(tmp_path: Path) -> None:
    """Oracle: the weights without them, if the config counts them; else the sentence for a layer too many."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    expected, layers = digest_of(directory), len(loading.read_spec(directory).blocks)
    ahead = {f"model.layers.{layers}.{part}.weight": torch.ones(2) for part in ("eh_proj", "input_layernorm")}
    edit_tensors(directory, lambda tensors: tensors.update(ahead))
    edit_config(directory, num_nextn_predict_layers=1)
    with pytest.warns(LoadingWarning, match=rf"layers\.{layers} \(2 tensors\)"):
        assert digest_of(directory) == expected
    for value in (0, None):
        edit_config(directory, num_nextn_predict_layers=value)
        with pytest.raises(CheckpointError, match=f"of layer {layers}"):
            braidlm.load(directory)
    edit_config(directory, num_nextn_predict_layers="one")
    with pytest.raises(CheckpointError, match="num_nextn_predict_layers 'one'"):
        braidlm.load(directory)


def test_a_head_that_is_missing(tmp_path: Path) -> None:
    """Oracle: the tensor's name: an untied head is never taken from the embedding."""
    seed = next(i for i in range(20) if not tiny("llama", i).tied)
    directory = tiny_checkpoint(tmp_path / "model", "llama", seed)
    edit_tensors(directory, lambda tensors: {k: v for k, v in tensors.items() if k != "lm_head.weight"})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is missing"):
        braidlm.load(directory)


VISION: dict[str, Any] = {"model_type": "llava", "image_token_index": 7, "vision_config": {"hidden_size": 3}}


@pytest.mark.parametrize("style", ["transformers 4", "transformers 5"])
@pytest.mark.parametrize("family", ["llama", "granitemoehybrid"])
def test_a_model_that_sees(style: str, family: str, tmp_path: Path) -> None:
    """Oracle: the text model alone: logits, config, end tokens; its saved form is the text model's."""
    directory = tiny_checkpoint(tmp_path / "model", family, dtype="float32")
    expected, text = logits_of(directory), json.loads((directory / "config.json").read_text())
    tied = text.pop("tie_word_embeddings", False)
    whole = VISION | {"text_config": text, "tie_word_embeddings": tied, "eos_token_id": 2}
    (directory / "config.json").write_text(json.dumps(whole))

    def put_inside(tensors: Tensors) -> Tensors:
        if style == "transformers 4":
            inner = {f"language_model.{name}": tensor for name, tensor in tensors.items()}
        else:
            rename = PREFIXES["transformers 5, nested"]
            inner = {rename(name): tensor for name, tensor in tensors.items()}
        return inner | {"vision_tower.layers.0.weight": torch.ones(2), "image_newline": torch.ones(3)}

    edit_tensors(directory, put_inside)
    with pytest.warns(LoadingWarning, match=r"image_newline \(1 tensor\), vision_tower \(1 tensor\)"):
        assert torch.equal(logits_of(directory), expected)
    with pytest.warns(LoadingWarning):
        loaded = braidlm.load(directory)
    assert loaded.origin.ends == (2,)
    loaded.save(tmp_path / "text")
    assert torch.equal(logits_of(tmp_path / "text"), expected)
    assert "text_config" not in json.loads((tmp_path / "text" / "config.json").read_text())


@pytest.mark.filterwarnings("ignore::braidlm.errors.LoadingWarning")
@pytest.mark.parametrize("kind", ["llama", "mistral", "granite"])
def test_sizes_that_a_nested_config_leaves_out(kind: str, tmp_path: Path) -> None:
    """Oracle: transformers' own class without any setting, and with the ones that are said."""
    for said in ({}, {"num_hidden_layers": 3, "vocab_size": 64, "rms_norm_eps": 1e-4}):
        text = {"model_type": kind} | said
        (tmp_path / "config.json").write_text(json.dumps(VISION | {"text_config": text}))
        published = read_published(tmp_path)
        whole = CONFIG_MAPPING[kind](**said).to_dict()
        assert published.family.read(published.config) == published.family.read(whole)


def test_strange_tensors_of_the_text_tower(tmp_path: Path) -> None:
    """Oracle: the tensor's name: what is within the text model's part has to have a place."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    text = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(VISION | {"text_config": text}))

    def put_inside(tensors: Tensors) -> Tensors:
        inner = {f"language_model.{name}": tensor for name, tensor in tensors.items()}
        return inner | {"language_model.model.surprise": torch.ones(2)}

    edit_tensors(directory, put_inside)
    with pytest.raises(CheckpointError, match=r"language_model\.model\.surprise belongs to no parameter"):
        braidlm.load(directory)


def test_byte_order_marks(tmp_path: Path) -> None:
    """Oracle: the weights and end tokens without them."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    expected = digest_of(directory)
    (directory / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    for name in ("config.json", "generation_config.json"):
        (directory / name).write_bytes(b"\xef\xbb\xbf" + (directory / name).read_bytes())
    assert digest_of(directory) == expected
    assert braidlm.load(directory).origin.ends == (1, 2)


def test_warnings_on_the_command_line(tmp_path: Path) -> None:
    """Oracle: by hand: one line on standard error, without code; the answer alone on standard output."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    edit_tensors(directory, lambda tensors: tensors.update({"score.weight": torch.ones(3)}))
    command = [sys.executable, "-m", "braidlm", "generate", str(directory), "--ids", "1 2", "--max-tokens", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "braid: warning: left out what is no part of the text model: score (1 tensor)\n"
    assert len(done.stdout.split()) == 1


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_granite_without_shared_experts(tmp_path: Path) -> None:
    """Oracle: transformers, which writes empty tensors for the shared feed-forward of width 0."""
    config = transformers.GraniteMoeHybridConfig(
        vocab_size=64, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, shared_intermediate_size=0, num_local_experts=4, num_experts_per_tok=2,
        layer_types=["mamba", "attention"], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=16, mamba_n_groups=1,
        mamba_expand=2, position_embedding_type="rope",
    )  # fmt: skip
    torch.manual_seed(0)
    reference = transformers.GraniteMoeHybridForCausalLM(config).eval()
    reference.save_pretrained(tmp_path / "model")
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert written["model.layers.0.shared_mlp.input_linear.weight"].shape == (0, 32)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        expected = reference(ids).logits
    error = (braidlm.load(tmp_path / "model").forward(ids) - expected).abs().max() / expected.abs().max()
    assert error < RELATIVE_LOGITS[torch.float32]
