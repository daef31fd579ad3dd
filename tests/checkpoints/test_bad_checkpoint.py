"""Wrong checkpoints end in one sentence that names what was wrong."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import braidlm
from braidlm import BraidError
from braidlm.api import loading
from braidlm.errors import CheckpointError, InputError, SpecError, UnavailableError
from braidlm.model import footprint

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the tiny Llama."""
    return Path(shutil.copytree(GOLDEN / "llama", tmp_path / "model"))


def edit_config(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(kept))


def edit_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(directory / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def refused(path: str | Path, kind: type[BraidError], *words: str, **options: Any) -> None:
    """Loading ends in one sentence with these words."""
    with pytest.raises(kind) as caught:
        braidlm.load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_missing_file(tmp_path: Path) -> None:
    """Oracle: the message names the path and says what else there is."""
    refused(tmp_path / "nowhere" / "model", InputError, "nowhere", "preset")
    refused("no-such-preset", InputError, "no-such-preset", "mamba-130m")
    refused(tmp_path, CheckpointError, "config.json")


def test_directory_without_weights(checkpoint: Path) -> None:
    """Oracle: the message names the file that is missing."""
    (checkpoint / "model.safetensors").unlink()
    refused(checkpoint, CheckpointError, "model.safetensors")


def test_truncated_safetensors(checkpoint: Path) -> None:
    """Oracle: any cut of the file is refused with its name."""
    file = checkpoint / "model.safetensors"
    whole = file.read_bytes()
    for cut in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        refused(checkpoint, CheckpointError, "model.safetensors")


def test_missing_tensor(checkpoint: Path) -> None:
    """Oracle: the tensor's published name."""
    edit_weights(checkpoint, lambda tensors: tensors.pop("model.layers.2.mlp.up_proj.weight"))
    refused(checkpoint, CheckpointError, "model.layers.2.mlp.up_proj.weight", "missing")


def test_extra_tensor(checkpoint: Path) -> None:
    """Oracle: the tensor's name."""
    edit_weights(checkpoint, lambda tensors: tensors.update(surprise=torch.ones(2)))
    refused(checkpoint, CheckpointError, "surprise")


def test_misshapen_tensor(checkpoint: Path) -> None:
    """Oracle: the tensor's name, its shape and the right one."""
    edit_weights(checkpoint, lambda tensors: tensors.update({"model.norm.weight": torch.ones(63)}))
    refused(checkpoint, CheckpointError, "model.norm.weight", "[63]", "[64]")


def test_misshapen_fused_tensor(tmp_path: Path) -> None:
    """Oracle: a stacked tensor is named as a whole."""
    directory = Path(shutil.copytree(GOLDEN / "stripedhyena", tmp_path / "model"))
    name = "backbone.blocks.1.inner_mha_cls.Wqkv.weight"
    edit_weights(directory, lambda tensors: tensors.update({name: torch.ones(120, 64)}))
    refused(directory, CheckpointError, name, "[120, 64]")


def test_tied_head_that_differs(tmp_path: Path) -> None:
    """Oracle: a repetition that does not repeat is an error, not a silent choice."""
    directory = Path(shutil.copytree(GOLDEN / "mamba", tmp_path / "model"))
    edit_weights(directory, lambda tensors: tensors.update({"lm_head.weight": torch.ones(200, 48)}))
    refused(directory, CheckpointError, "lm_head.weight", "differ")


def test_damaged_index(checkpoint: Path) -> None:
    """Oracle: the index file is named."""
    (checkpoint / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    refused(checkpoint, CheckpointError, "index.json")
    (checkpoint / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    (checkpoint / "model.safetensors").unlink()
    refused(checkpoint, CheckpointError, "gone.safetensors")


def test_unknown_model_type(checkpoint: Path) -> None:
    """Oracle: the list of what is supported."""
    edit_config(checkpoint, model_type="rwkv")
    refused(checkpoint, SpecError, "'rwkv'", "bamba", "granitemoehybrid", "hymba", "llama", "mamba2", "stripedhyena")
    edit_config(checkpoint, model_type=...)
    refused(checkpoint, SpecError, "None")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", ...),
        ("hidden_size", -64),
        ("hidden_size", "64"),
        ("hidden_size", 6.5),
        ("hidden_size", 10**12),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 5),
        ("num_key_value_heads", 3),
        ("rms_norm_eps", float("inf")),
        ("rms_norm_eps", -1.0),
        ("rope_scaling", {"rope_type": "longrope", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("hidden_act", "relu"),
        ("attention_bias", "no"),
        ("vocab_size", True),
    ],
)
def test_missing_or_absurd_config_value(checkpoint: Path, key: str, value: Any) -> None:
    """Oracle: the message names the key or the field that it became."""
    edit_config(checkpoint, **{key: value})
    fields = {"num_key_value_heads": "kv_heads", "num_attention_heads": "heads", "rms_norm_eps": "eps"}
    refused(checkpoint, SpecError, fields.get(key, key))


def test_config_is_no_json(checkpoint: Path) -> None:
    """Oracle: the file is named."""
    (checkpoint / "config.json").write_text("{")
    refused(checkpoint, CheckpointError, "config.json")
    (checkpoint / "config.json").write_text("[]")
    refused(checkpoint, CheckpointError, "config.json")


def test_pickle_needs_permission(tmp_path: Path) -> None:
    """Oracle: the option that permits it is named; code in a pickle is never run."""
    refused(GOLDEN / "mamba_original", CheckpointError, "allow_pickle")
    directory = Path(shutil.copytree(GOLDEN / "mamba_original", tmp_path / "model"))

    class Surprise:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"backbone.embedding.weight": Surprise()}, directory / "pytorch_model.bin")
    refused(directory, CheckpointError, "pytorch_model.bin", allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: one sentence that names the hub id."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("nobody/no-such-model", UnavailableError, "nobody/no-such-model", "hub")


def test_unknown_dtype_and_ops(checkpoint: Path) -> None:
    """Oracle: the message lists what there is."""
    refused(checkpoint, InputError, "float32", "bfloat16", dtype="int3")
    refused(checkpoint, UnavailableError, "reference", ops="magic")


@pytest.mark.parametrize("name", ["x" * 300, "nul\0", "a b/c"])
def test_names_that_nothing_can_have(name: str) -> None:
    """Oracle: one sentence that says so."""
    refused(name, InputError, name[:20])


def test_devices(checkpoint: Path) -> None:
    """Oracle: one sentence that names the value."""
    refused(checkpoint, UnavailableError, "'abacus'", device="abacus")


def test_numbers_of_a_strange_format(checkpoint: Path) -> None:
    """Oracle: the tensor's name: whole numbers are no weights."""
    edit_weights(checkpoint, lambda tensors: tensors.update({"model.norm.weight": torch.ones(64, dtype=torch.int8)}))
    refused(checkpoint, CheckpointError, "model.norm.weight", "int8")


def test_end_tokens_survive_saving(checkpoint: Path, tmp_path: Path) -> None:
    """Oracle: the generation config's end tokens, of which the config has only one."""
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    loaded = braidlm.load(checkpoint)
    assert loaded.origin.ends == (1, 2)
    loaded.save(tmp_path / "out")
    assert braidlm.load(tmp_path / "out").origin.ends == (1, 2)


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("bamba", "layer_types", ["attention", "foo", "mamba", "mamba", "mamba"]),
        ("granitemoehybrid", "logits_scaling", 0),
        ("hymba", "kv_reuse_group", 5),
        ("llama", "rope_scaling", {"type": "linear", "factor": "x"}),
    ],
)
def test_config_values_of_the_wrong_kind(family: str, key: str, value: Any, tmp_path: Path) -> None:
    """Oracle: one sentence, never a traceback or a silent choice."""
    directory = Path(shutil.copytree(GOLDEN / family, tmp_path / "model"))
    edit_config(directory, attn_layer_indices=..., **{key: value})
    refused(directory, SpecError)


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {"a": 3}}, {"weight_map": {"a": None}}])
def test_index_of_another_kind(checkpoint: Path, index: Any) -> None:
    """Oracle: the index file is named."""
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(checkpoint, CheckpointError, "index.json", "damaged")
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps([index]))
    refused(checkpoint, CheckpointError, "index.json", "JSON object")


@pytest.mark.parametrize(
    "place",
    ["", ".", "inside", "..", "../model.safetensors", "/etc/hostname", "nul\0", "x" * 300, "x/" * 2500, "x" * 5000],
    ids=lambda place: place[:20],
)
def test_index_that_leads_elsewhere(checkpoint: Path, place: str) -> None:
    """Oracle: the place is named; a directory is no file, and nothing outside is opened."""
    (checkpoint / "inside").mkdir()
    shutil.copy(checkpoint / "model.safetensors", checkpoint.parent)
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
    refused(checkpoint, CheckpointError, repr(place)[:200], "no file of its directory")


def test_index_that_is_a_directory(checkpoint: Path) -> None:
    """Oracle: the index file is named."""
    (checkpoint / "model.safetensors.index.json").mkdir()
    refused(checkpoint, CheckpointError, "index.json")


def test_links_in_a_directory_are_followed(checkpoint: Path) -> None:
    """Oracle: the checkpoint itself: caches keep files elsewhere and link to them."""
    file = checkpoint / "model.safetensors"
    expected = braidlm.load(checkpoint).forward(torch.tensor([[1, 2]]))
    file.rename(checkpoint.parent / "blob")
    file.symlink_to(checkpoint.parent / "blob")
    names = load_file(file)
    index = {"weight_map": dict.fromkeys(names, "model.safetensors")}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(braidlm.load(checkpoint).forward(torch.tensor([[1, 2]])), expected)


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """A copy of the tiny Mamba in its original layout."""
    return Path(shutil.copytree(GOLDEN / "mamba_original", tmp_path / "pickled"))


def test_pickles_of_old(pickled: Path) -> None:
    """Oracle: the same tensors in a zip file, which pickles have been in since torch 1.6."""
    expected = braidlm.load(pickled, allow_pickle=True).forward(torch.tensor([[1, 2]]))
    file = pickled / "pytorch_model.bin"
    torch.save(torch.load(file, weights_only=True), file, _use_new_zipfile_serialization=False)
    assert torch.equal(braidlm.load(pickled, allow_pickle=True).forward(torch.tensor([[1, 2]])), expected)
    whole = file.read_bytes()
    for cut in (0, 10, 200, len(whole) // 2):
        file.write_bytes(whole[:cut])
        refused(pickled, CheckpointError, "pytorch_model.bin", "damaged", allow_pickle=True)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({1: torch.ones(2)}, "calls a tensor 1"),
        ({"a": 3}, "a int"),
        ({"model": {"a": torch.ones(2)}}, "a dict"),
        ({"a": torch.eye(3).to_sparse()}, "tensor a is sparse"),
        ([torch.ones(2)], "a list"),
        (torch.ones(2), "a Tensor"),
    ],
    ids=["key", "number", "nested", "sparse", "list", "tensor"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, about sparse tensors that it does not check
def test_pickles_of_something_else(pickled: Path, held: Any, words: str) -> None:
    """Oracle: the file and what it holds are named."""
    torch.save(held, pickled / "pytorch_model.bin")
    refused(pickled, CheckpointError, "pytorch_model.bin", words, allow_pickle=True)


@pytest.mark.parametrize(
    "origin", [[1], "hf", {"format": 5}, {"config": [1]}, {"ends": 5}, {"ends": ["a"]}, {"ends": [1.5]}, {"ends": {}}]
)
def test_own_format_with_a_strange_origin(checkpoint: Path, origin: Any, tmp_path: Path) -> None:
    """Oracle: the file is named; `ends` may be one id."""
    directory = tmp_path / "own"
    braidlm.load(checkpoint).save(directory, "braidlm")
    about = json.loads((directory / "braidlm.json").read_text())
    (directory / "braidlm.json").write_text(json.dumps(about | {"origin": origin}))
    if origin in ({"ends": 5}, {"ends": {}}):
        assert braidlm.load(directory).origin.ends == ((5,) if origin["ends"] else ())
    else:
        refused(directory, CheckpointError, "braidlm.json")


@pytest.mark.parametrize("ends", ["a", [None], {}, 1.5, True])
def test_end_tokens_that_are_none(checkpoint: Path, ends: Any) -> None:
    """Oracle: the file is named."""
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    refused(checkpoint, CheckpointError, "generation_config.json", "token ids")


FILES = ["config.json", "model.safetensors", "generation_config.json"]


@pytest.mark.parametrize("name", FILES)
def test_directories_in_place_of_files(checkpoint: Path, name: str) -> None:
    """Oracle: the file is named."""
    (checkpoint / name).unlink(missing_ok=True)
    (checkpoint / name).mkdir()
    refused(checkpoint, CheckpointError, name)


@pytest.mark.parametrize("kind", ["pipe", "device", "link to nowhere"])
@pytest.mark.parametrize("name", [*FILES, "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"])
def test_what_is_no_file(checkpoint: Path, name: str, kind: str) -> None:
    """Oracle: the file is named; nothing is waited for, and a link to nowhere is no absent file."""
    (checkpoint / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(checkpoint / name)
    else:
        (checkpoint / name).symlink_to("/dev/zero" if kind == "device" else "nowhere")
    refused(checkpoint, CheckpointError, name, "not exist" if kind == "link to nowhere" else "is no regular file")


def test_sizes_that_no_memory_can_hold(checkpoint: Path) -> None:
    """Oracle: by hand: a table of 2^31 by 2^31 numbers has 2^64 bytes; with fewer rows it is counted."""
    sizes = {"vocab_size": 2**31, "hidden_size": 2**31, "head_dim": 16}
    edit_config(checkpoint, **sizes)
    spec = loading.read_spec(checkpoint)
    for act in (
        lambda: footprint.size(spec),
        lambda: footprint.weight_bytes(spec, torch.bfloat16),
        lambda: braidlm.build(spec),
        lambda: footprint.size(replace(spec, vocab=2**70)),
        lambda: braidlm.load(checkpoint),
    ):
        with pytest.raises(SpecError, match=r"2\^63 bytes") as caught:
            act()
        assert "\n" not in str(caught.value)
    edit_config(checkpoint, **sizes | {"hidden_size": 64})
    assert footprint.size(loading.read_spec(checkpoint)).embedding == 2**31 * 64
