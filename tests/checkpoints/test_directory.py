"""Which files of a directory hold the weights: shards with and without an index, pickles, files of others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import braidlm
from braidlm.errors import BraidError, LoadingWarning
from tests.checkpoints.files import digest_of, edit_tensors, tiny_checkpoint

INDEX = "model.safetensors.index.json"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "model", "llama")


def shard(directory: Path, count: int = 3, *, index: bool = True) -> dict[str, str]:
    """Cuts the weights into shards; what the index says, or would say."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    weight_map = {}
    for number in range(count):
        file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        names = sorted(tensors)[number::count]
        save_file({name: tensors[name] for name in names}, directory / file)
        weight_map |= dict.fromkeys(names, file)
    if index:
        (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return weight_map


def shard_pickles(directory: Path, count: int, *, index: bool) -> None:
    weight_map = shard(directory, count, index=False)
    found = {}
    for file in sorted(set(weight_map.values())):
        name = file.replace("model", "pytorch_model").replace("safetensors", "bin")
        torch.save(load_file(directory / file), directory / name)
        (directory / file).unlink()
        found |= {tensor: name for tensor, place in weight_map.items() if place == file}
    if index:
        (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": found}))


def refused(directory: Path, *words: str, allow_pickle: bool = False) -> None:
    """Loading ends in one sentence with these words."""
    with pytest.raises(BraidError) as caught:
        braidlm.load(directory, allow_pickle=allow_pickle)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("index", [True, False])
def test_shards(index: bool, count: int, directory: Path) -> None:
    """Oracle: the weights of the single file; files that belong to nobody's shards are not looked at."""
    expected = digest_of(directory)
    shard(directory, count, index=index)
    for stray in ("adapter_model.safetensors", "consolidated.safetensors", "optimizer.pt", "notes.safetensors"):
        (directory / stray).write_bytes(b"not a file of tensors")
    assert digest_of(directory) == expected


def test_a_shard_that_is_missing(directory: Path) -> None:
    """Oracle: the sentence, with the shard's number or its name."""
    shard(directory, index=False)
    second = directory / "model-00002-of-00003.safetensors"
    second.rename(directory / "kept")
    refused(directory, "shard 2 of model-*-of-00003.safetensors is not there")
    (directory / "kept").rename(directory / "model-00002-of-00004.safetensors")
    refused(directory, "shards of several sets", "00004")
    (directory / "model-00002-of-00004.safetensors").unlink()
    (directory / "model-00001-of-00003.safetensors").unlink()
    (directory / "model-00003-of-00003.safetensors").rename(directory / "model-00003-of-99999999999.safetensors")
    refused(directory, "shard 1 of")


def test_an_index_with_gaps(directory: Path) -> None:
    """Oracle: the sentences: a file that is listed and missing; one that lies there and is not listed."""
    weight_map = shard(directory)
    first = "model-00001-of-00003.safetensors"
    lacking = {name: file for name, file in weight_map.items() if file != first}
    (directory / INDEX).write_text(json.dumps({"weight_map": lacking}))
    missing = min(name for name, file in weight_map.items() if file == first)
    with pytest.warns(LoadingWarning, match=f"not those that it lacks: {first}"):
        refused(directory, f"tensor {missing} is missing")
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    (directory / first).unlink()
    refused(directory, first, "does not exist")


def test_a_tensor_in_two_shards(directory: Path) -> None:
    """Oracle: the index, which says whose tensor counts; without one none does."""
    expected = digest_of(directory)
    weight_map = shard(directory)
    name = "model.norm.weight"
    for file in sorted(set(weight_map.values()) - {weight_map[name]}):
        save_file(load_file(directory / file) | {name: torch.zeros(3)}, directory / file)
    assert digest_of(directory) == expected
    (directory / INDEX).unlink()
    refused(directory, f"tensor {name} is in more than one file")


def test_a_single_file_beside_an_index(directory: Path, tmp_path: Path) -> None:
    """Oracle: transformers' order: the single file's weights, with a warning that names the others."""
    expected = digest_of(directory)
    other = Path(shutil.copytree(directory, tmp_path / "other"))
    edit_tensors(other, lambda tensors: {name: tensor * 2 for name, tensor in tensors.items()})
    shard(other)
    for file in [INDEX, *(path.name for path in other.glob("model-*"))]:
        shutil.copy(other / file, directory)
    with pytest.warns(LoadingWarning, match=r"read model\.safetensors, as transformers does.*model-00001-of-00003"):
        assert digest_of(directory) == expected
    index = {"weight_map": dict.fromkeys(load_file(directory / "model.safetensors"), "model.safetensors")}
    (directory / INDEX).write_text(json.dumps(index))
    assert digest_of(directory) == expected  # the index of the single file itself, as mlx writes it


@pytest.mark.parametrize("index", [True, False])
def test_sharded_pickles(index: bool, directory: Path) -> None:
    """Oracle: the weights of the single safetensors file; nothing is read without permission."""
    expected = digest_of(directory)
    shard_pickles(directory, 3, index=index)
    for stray in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"):
        (directory / stray).write_bytes(b"never opened")
    refused(directory, "pytorch_model-00001-of-00003.bin", "allow_pickle=True")
    assert digest_of(directory, allow_pickle=True) == expected
    (directory / "pytorch_model-00002-of-00003.bin").unlink()
    refused(directory, "00002" if index else "shard 2", allow_pickle=True)


def test_several_pickles(directory: Path) -> None:
    """Oracle: by hand: the usual name counts; two others are a question."""
    expected, tensors = digest_of(directory), load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    for name in ("a.bin", "b.pth"):
        torch.save({}, directory / name)
    refused(directory, "a.bin, b.pth", allow_pickle=True)
    torch.save(tensors, directory / "pytorch_model.bin")
    assert digest_of(directory, allow_pickle=True) == expected


def of_mistral(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "consolidated.safetensors")


def of_makers_alone(directory: Path) -> None:
    of_mistral(directory)
    (directory / "config.json").rename(directory / "params.json")


def gguf_beside_config(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "model-q4.gguf")


def gguf_alone(directory: Path) -> None:
    gguf_beside_config(directory)
    (directory / "config.json").unlink()


def adapter(directory: Path) -> None:
    (directory / "config.json").rename(directory / "adapter_config.json")


def another_name(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "weights.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_mistral, ("consolidated.safetensors", "get model.safetensors")),
        (of_makers_alone, ("params.json", "get config.json and model.safetensors")),
        (gguf_beside_config, ("as GGUF", "model-q4.gguf")),
        (gguf_alone, ("no config.json", "model-q4.gguf")),
        (adapter, ("an adapter", "load_adapter")),
        (another_name, ("neither model.safetensors nor", "rename weights.safetensors")),
        (lambda directory: (directory / "model.safetensors").unlink(), ("holds no weights",)),
        (lambda directory: (directory / "config.json").unlink(), ("config.json does not exist",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_directories_of_another_kind(change: Callable[[Path], None], words: tuple[str, ...], directory: Path) -> None:
    """Oracle: the sentence, which says what to get or to load instead."""
    change(directory)
    refused(directory, *words)


@pytest.mark.parametrize("name", ["config.json", INDEX, "generation_config.json", "braidlm.json"])
def test_files_without_end(name: str, directory: Path) -> None:
    """Oracle: the sentence: a link to a device, 5,000 levels and a missing end are no JSON, in no time."""
    path = directory / name
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")
    refused(directory, name, "no regular file")
    path.unlink()
    path.write_text("[" * 5000 + "]" * 5000)
    refused(directory, name, "nested too deep")
    path.write_text('{"a": ')
    refused(directory, name, "no readable JSON")


def test_half_precision(directory: Path) -> None:
    """Oracle: the values as float32, which holds all of them; whole numbers are refused by name."""
    edit_tensors(directory, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    values = load_file(directory / "model.safetensors")
    found = braidlm.load(directory)
    assert found.network.dtype == torch.float32
    assert torch.equal(found.network.get_parameter("embed.weight"), values["model.embed_tokens.weight"].float())
    for dtype in (torch.int32, torch.bool, torch.uint8):
        edit_tensors(directory, lambda tensors, d=dtype: tensors.update({"model.norm.weight": torch.ones(32, dtype=d)}))  # type: ignore[misc]
        refused(directory, "model.norm.weight", str(dtype))
    edit_tensors(directory, lambda tensors: {})
    refused(directory, "no tensor")
