"""GGUF files of other tools: towers, blocks that predict ahead, other spellings, files in parts."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFValueType

import braidlm
from braidlm.errors import BraidError, CheckpointError, LoadingWarning
from braidlm.spec import Attention, LinearScaling
from tests.checkpoints.gguf_files import numbers, parts, path_of, refused, write
from tests.text.made import gpt2
from tests.tolerances import RELATIVE_LOGITS

IDS = torch.arange(12)[None]
UINT32, ARRAY = GGUFValueType.UINT32, GGUFValueType.ARRAY


def expected(name: str) -> torch.Tensor:
    return braidlm.load(path_of(name)).forward(IDS)


def test_towers_are_left_out(tmp_path: Path) -> None:
    """Oracle: the file without them; one warning names them."""
    arch, metadata, tensors = parts("llama")
    more = {"v.patch_embd.weight": numbers(3, 4), "v.blk.0.attn_q.weight": numbers(4, 4), "mm.0.weight": numbers(4, 4)}
    file = write(tmp_path / "file.gguf", arch, metadata, tensors | more)
    with pytest.warns(LoadingWarning, match="of other towers are left out: v.patch_embd.weight, v.blk.0") as caught:
        found = braidlm.load(file)
    assert torch.equal(found.forward(IDS), expected("llama"))
    assert len(caught) == 1 and "mm.0.weight" in str(caught[0].message)


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
@pytest.mark.parametrize("said", [True, False], ids=["said", "not said"])
@pytest.mark.parametrize("name", ["llama", "granitehybrid"])
def test_blocks_that_predict_ahead(name: str, said: bool, counted: bool, tmp_path: Path) -> None:
    """Oracle: the file without them: they are no blocks of the model, whether the count has them or not."""
    arch, metadata, tensors = parts(name)
    blocks = metadata[f"{arch}.block_count"][0]
    more = {f"blk.{blocks}.nextn.eh_proj.weight": numbers(8, 4), f"blk.{blocks}.attn_norm.weight": numbers(64)}
    if said:
        metadata[f"{arch}.nextn_predict_layers"] = (1, UINT32)
    if counted:
        metadata[f"{arch}.block_count"] = (blocks + 1, UINT32)
        if name == "granitehybrid":
            metadata[f"{arch}.attention.head_count_kv"] = ([0, 0, 2, 0, 2, 0, 2], ARRAY)
    file = write(tmp_path / "file.gguf", arch, metadata, tensors | more)
    with pytest.warns(LoadingWarning, match=rf"predict tokens further ahead are left out: blk.{blocks}.nextn"):
        found = braidlm.load(file)
    assert len(found.spec.blocks) == blocks
    assert torch.equal(found.forward(IDS), expected(name))


def test_blocks_that_predict_ahead_in_the_middle(tmp_path: Path) -> None:
    """Oracle: the sentence: such blocks are the last ones, or it is not known what they are."""
    arch, metadata, tensors = parts("llama")
    file = write(tmp_path / "file.gguf", arch, metadata, tensors | {"blk.1.nextn.eh_proj.weight": numbers(8, 4)})
    refused(lambda: braidlm.load(file), CheckpointError, "file.gguf: blocks [1] predict", "must be the last 1 of 4")


def test_a_block_too_many(tmp_path: Path) -> None:
    """Oracle: the sentence: a block of the usual kind is never left out."""
    arch, metadata, tensors = parts("llama")
    file = write(tmp_path / "file.gguf", arch, metadata, tensors | {"blk.4.attn_norm.weight": numbers(64)})
    refused(lambda: braidlm.load(file), CheckpointError, "block_count is 4, but there are tensors of 5 blocks")


@pytest.mark.parametrize("name", ["mamba2", "granitehybrid", "mamba"])
def test_time_steps_without_bias_in_their_name(name: str, tmp_path: Path) -> None:
    """Oracle: the file as llama.cpp writes it; Ollama calls the bias of Mamba's time steps "ssm_dt"."""
    arch, metadata, tensors = parts(name)
    other = {key.removesuffix(".bias") if "ssm_dt" in key else key: tensor for key, tensor in tensors.items()}
    assert other.keys() != tensors.keys()
    found = braidlm.load(write(tmp_path / "file.gguf", arch, metadata, other))
    assert torch.equal(found.forward(IDS), expected(name))


OLLAMA: dict[str, tuple[dict[str, Any], set[str]]] = {
    "no length": ({}, {"context_length"}),
    "sizes in general": ({"general.parameter_count": (186_000, GGUFValueType.UINT64)}, set()),
    "heads of each block": (
        {"attention.head_count": ([4] * 4, ARRAY), "attention.head_count_kv": ([2] * 4, ARRAY)},
        set(),
    ),
    "wide numbers": ({"block_count": (4, GGUFValueType.UINT64), "embedding_length": (64, GGUFValueType.INT32)}, set()),
}


@pytest.mark.parametrize("case", OLLAMA)
def test_metadata_as_others_write_it(case: str, tmp_path: Path) -> None:
    """Oracle: the same file with llama.cpp's metadata."""
    arch, metadata, tensors = parts("llama")
    more, less = OLLAMA[case]
    metadata = {key: given for key, given in metadata.items() if key.removeprefix("llama.") not in less}
    metadata |= {key if key.startswith("general.") else f"llama.{key}": given for key, given in more.items()}
    found = braidlm.load(write(tmp_path / "file.gguf", arch, metadata, tensors))
    assert torch.equal(found.forward(IDS), expected("llama"))
    assert (found.spec.max_positions is None) == (case == "no length")


STRETCHED: dict[str, dict[str, Any]] = {
    "without a kind": {"rope.scaling.factor": 4.0},
    "in the old spelling": {"rope.scale_linear": 4.0},
    "in the new spelling": {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
}


def stretched(place: Path, name: str, more: dict[str, Any], tensors: dict[str, Any] | None = None) -> Path:
    """One of llama.cpp's files with these rotary settings alone, and more tensors."""
    arch, metadata, own = parts(name)
    own.pop("rope_freqs.weight", None)
    kinds = {str: GGUFValueType.STRING, int: UINT32, float: GGUFValueType.FLOAT32}
    metadata |= {f"{arch}.{key}": (value, kinds[type(value)]) for key, value in more.items()}
    return write(place / "file.gguf", arch, metadata, own | (tensors or {}))


@pytest.mark.parametrize("case", STRETCHED)
def test_scaled_positions(case: str, tmp_path: Path) -> None:
    """Oracle: the model of the file with its positions divided by four: whatever the key is called, it counts."""
    plain = braidlm.load(stretched(tmp_path, "llama", {}))
    found = braidlm.load(stretched(tmp_path, "llama", STRETCHED[case]))
    mixer = plain.spec.blocks[0].mixer
    assert isinstance(mixer, Attention) and mixer.rope is not None and mixer.rope.scaling is None
    rope = replace(mixer.rope, scaling=LinearScaling(factor=4.0))
    assert found.spec.blocks[0].mixer == replace(mixer, rope=rope)
    assert not torch.equal(found.forward(IDS), plain.forward(IDS))


def test_a_scaling_by_nothing(tmp_path: Path) -> None:
    """Oracle: the file without it: a kind of scaling without a factor changes nothing."""
    plain = braidlm.load(stretched(tmp_path, "llama", {})).forward(IDS)
    found = braidlm.load(stretched(tmp_path, "llama", {"rope.scaling.type": "linear"}))
    assert torch.equal(found.forward(IDS), plain)


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("llama", {"rope.dimension_count": 8}, "rotates 8 of 16 dimensions"),
        ("llama", {"rope.scaling.type": "longrope"}, "scales rotary positions by 'longrope'"),
        ("llama", {"rope.scaling.type": "yarn"}, "lacks the metadata or tensor 'rope.scaling.factor'"),
        ("granitehybrid", {"rope.scaling.type": "longrope"}, "scales rotary positions by 'longrope'"),
    ],
)
def test_rotary_settings_that_are_not_supported(name: str, more: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Oracle: the sentence: what changes the angles is never passed over."""
    refused(lambda: braidlm.load(stretched(tmp_path, name, more)), BraidError, words)


def test_two_scalings(tmp_path: Path) -> None:
    """Oracle: the sentence: factors of frequencies beside a factor of positions are not chosen from."""
    factors = {"rope_freqs.weight": np.ones(8, np.float32)}
    file = stretched(tmp_path, "llama", {"rope.scaling.factor": 2.0}, factors)
    refused(lambda: braidlm.load(file), BraidError, "by rope_freqs.weight and by 'linear'")


@pytest.mark.parametrize("said", [True, False])
def test_experts_without_a_shared_one(said: bool, tmp_path: Path) -> None:
    """Oracle: the file whose shared expert gives zeros; whether the metadata says its length 0 or nothing."""
    arch, metadata, tensors = parts("granitehybrid")
    zeros = {name: 0 * tensor if "down_shexp" in name else tensor for name, tensor in tensors.items()}
    expected = braidlm.load(write(tmp_path / "zeros.gguf", arch, metadata, zeros)).forward(IDS)
    del metadata[f"{arch}.expert_shared_feed_forward_length"]
    metadata |= {f"{arch}.expert_shared_feed_forward_length": (0, UINT32)} if said else {}
    bare = {name: tensor for name, tensor in tensors.items() if "shexp" not in name}
    found = braidlm.load(write(tmp_path / "bare.gguf", arch, metadata, bare))
    assert (found.forward(IDS) - expected).abs().max() < RELATIVE_LOGITS[torch.float32] * expected.abs().max()


def test_ends_as_a_list() -> None:
    """Oracle: by hand: Ollama lists all ids that end a text; those that are none of the table are left out."""
    tokenizer = gpt2(eos_token_id=5, eos_token_ids=[5, 7, 9, 2**32 - 1])
    assert tokenizer.eos_ids == (5, 7, 9)
    with pytest.raises(CheckpointError, match="eos_token_ids is 5, but must be a list of ids"):
        gpt2(eos_token_ids=5)


def test_tables_of_angles_are_left_out(tmp_path: Path) -> None:
    """Oracle: the file without them, and no warning: what is left out can be computed."""
    arch, metadata, tensors = parts("llama")
    file = write(tmp_path / "file.gguf", arch, metadata, tensors | {"blk.0.attn_rot_embd.weight": numbers(8)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = braidlm.load(file)
    assert torch.equal(found.forward(IDS), expected("llama"))


def split(place: Path, count: int = 3, **changed: Any) -> list[Path]:
    """A model in parts as llama.cpp cuts them: metadata in the first, tensors in all."""
    arch, metadata, tensors = parts("mamba2")
    names, files = list(tensors), []
    for number in range(count):
        own = {name: tensors[name] for name in names[number::count]}
        numbers_of_parts = {
            "split.no": (number, GGUFValueType.UINT16),
            "split.count": (count, GGUFValueType.UINT16),
            "split.tensors.count": (changed.get("tensors", len(names)), GGUFValueType.INT32),
        }
        path = place / f"model-{number + 1:05d}-of-{count:05d}.gguf"
        files.append(write(path, arch, (metadata if number == 0 else {}) | numbers_of_parts, own))
    return files


def test_files_in_parts(tmp_path: Path) -> None:
    """Oracle: the same model in one file."""
    first, *_ = split(tmp_path)
    assert torch.equal(braidlm.load(first).forward(IDS), expected("mamba2"))


def test_parts_that_are_wrong(tmp_path: Path) -> None:
    """Oracle: a sentence each: a later part, a part that is missing, a strange name, another model's part."""
    first, second, third = split(tmp_path)
    refused(lambda: braidlm.load(second), CheckpointError, "is part 2 of 3; load the first part")
    whole = third.read_bytes()
    third.write_bytes(second.read_bytes())
    refused(lambda: braidlm.load(first), CheckpointError, "00003-of-00003.gguf does not say that it is part 3 of 3")
    third.write_bytes(whole[:-1])
    refused(lambda: braidlm.load(first), CheckpointError, "00003-of-00003.gguf is truncated")
    third.unlink()
    refused(lambda: braidlm.load(first), CheckpointError, "model-00003-of-00003.gguf is not beside it")
    lone = first.rename(tmp_path / "lone.gguf")
    refused(lambda: braidlm.load(lone), CheckpointError, "its name does not end in -00001-of-00003.gguf")
    again, *_ = split(tmp_path, tensors=99)
    refused(lambda: braidlm.load(again), CheckpointError, "tensors, but must have 99")
