"""GGUF files that are wrong, damaged, or none."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFValueType as Type

import braidlm
from braidlm.checkpoints.gguf import GgufFile
from braidlm.errors import BraidError, CheckpointError, InputError, SpecError
from braidlm.text.tokenizer import Tokenizer
from tests.checkpoints.gguf_files import GOLDEN, numbers, parts, path_of, refused, write


def test_truncated_files(tmp_path: Path) -> None:
    """Oracle: any cut, in header, metadata, table or tensors, is refused in one sentence with the file's name."""
    whole = path_of("mamba").read_bytes()
    file = tmp_path / "cut.gguf"
    for cut in (0, 1, 3, 4, 7, 8, 16, 23, 24, 25, 40, 100, 500, 1000, 2000, 3000, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        refused(lambda: braidlm.load(file), CheckpointError, "cut.gguf", "truncated, damaged or no GGUF file")


def test_foreign_files(tmp_path: Path) -> None:
    """Oracle: whatever is no GGUF file is refused in one sentence with the file's name."""
    file = tmp_path / "foreign"
    later_version = b"GGUF" + (99).to_bytes(4, "little") + bytes(100)
    for content in (
        b"hello, world\n" * 100,
        bytes(1000),
        b"\xff" * 1000,
        b"GGUF" * 100,
        b"GGUF" + b"\xff" * 100,
        later_version,
        (GOLDEN / "llama" / "model.safetensors").read_bytes(),
        (GOLDEN / "mamba_original" / "pytorch_model.bin").read_bytes(),
    ):
        file.write_bytes(content)
        refused(lambda: braidlm.load(file), CheckpointError, "foreign", "no GGUF file")


def test_changed_bytes(tmp_path: Path) -> None:
    """Oracle: a byte of the header or the tables is wrong: the file loads, or is refused as braidlm refuses."""
    whole, random = path_of("mamba").read_bytes(), np.random.default_rng(3)
    file, outcomes = tmp_path / "changed.gguf", Counter()
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[random.integers(3000)] ^= 1 << random.integers(8)
        file.write_bytes(damaged)
        outcomes[outcome(file)] += 1
    assert outcomes.keys() == {"", "one sentence"}


def outcome(file: Path) -> str:
    """How loading ends."""
    try:
        braidlm.load(file)
    except BraidError as error:
        return "several lines" if "\n" in str(error) else "one sentence"
    return ""


def test_missing_files(tmp_path: Path) -> None:
    """Oracle: the path is named."""
    gone = tmp_path / "gone.gguf"
    refused(lambda: GgufFile(gone), CheckpointError, str(gone), "does not exist")
    refused(lambda: braidlm.load(gone), InputError, str(gone))


def test_unsupported_architecture(tmp_path: Path) -> None:
    """Oracle: the name in the file and the list of architectures that are supported."""
    file = write(tmp_path / "file.gguf", "rwkv7", {}, {"token_embd.weight": numbers(4, 4)})
    refused(lambda: braidlm.load(file), SpecError, "'rwkv7'", "granitehybrid, llama, mamba, mamba2")


def test_no_architecture(tmp_path: Path) -> None:
    """Oracle: without that key a file is none that can be loaded."""
    file = write(tmp_path / "file.gguf", "llama", {}, {"token_embd.weight": numbers(4, 4)})
    file.write_bytes(file.read_bytes().replace(b"general.architecture", b"general.surprising__"))
    refused(lambda: braidlm.load(file), CheckpointError, "file.gguf")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("llama", "llama.block_count"),
        ("llama", "llama.embedding_length"),
        ("llama", "llama.attention.layer_norm_rms_epsilon"),
        ("llama", "llama.attention.head_count"),
        ("llama", "llama.feed_forward_length"),
        ("mamba", "mamba.ssm.inner_size"),
        ("mamba", "mamba.ssm.time_step_rank"),
        ("mamba2", "mamba2.ssm.state_size"),
    ],
)
def test_missing_metadata(name: str, key: str, tmp_path: Path) -> None:
    """Oracle: the key is named, as it is called after the architecture."""
    arch, metadata, tensors = parts(name)
    del metadata[key]
    file = write(tmp_path / "file.gguf", arch, metadata, tensors)
    refused(lambda: braidlm.load(file), CheckpointError, f"'{key.removeprefix(f'{arch}.')}'")


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.2.ffn_up.weight", "output_norm.weight"])
def test_missing_tensors(name: str, tmp_path: Path) -> None:
    """Oracle: the tensor is named."""
    arch, metadata, tensors = parts("llama")
    del tensors[name]
    refused(lambda: braidlm.load(write(tmp_path / "f.gguf", arch, metadata, tensors)), CheckpointError, name)


def test_other_wrong_tensors(tmp_path: Path) -> None:
    """Oracle: a tensor too many and one of the wrong shape are named."""
    arch, metadata, tensors = parts("llama")
    more = tensors | {"blk.0.surprise": numbers(3)}
    refused(lambda: braidlm.load(write(tmp_path / "a.gguf", arch, metadata, more)), CheckpointError, "blk.0.surprise")
    wrong = tensors | {"output_norm.weight": numbers(63)}
    file = write(tmp_path / "b.gguf", arch, metadata, wrong)
    refused(lambda: braidlm.load(file), CheckpointError, "output_norm.weight", "[63]", "[64]")


def test_scaling_that_is_not_supported(tmp_path: Path) -> None:
    """Oracle: the name in the file."""
    arch, metadata, tensors = parts("llama")
    del tensors["rope_freqs.weight"]
    metadata["llama.rope.scaling.type"] = ("longrope", Type.STRING)
    refused(lambda: braidlm.load(write(tmp_path / "f.gguf", arch, metadata, tensors)), SpecError, "'longrope'")


@pytest.mark.parametrize(
    ("arch", "key", "other"),
    [
        ("llama", "llama.rope.freq_base", "llama.rope.freq_bass"),
        ("llama", "llama.rope.freq_base", "llama.rope.freqbase"),
        ("llama", "llama.rope.freq_base", "LLAMA.rope.freq_base"),
        ("llama", "llama.rope.freq_base", "llama.rope.freq_basex"),
        ("granitehybrid", "granitehybrid.residual_scale", "granitehybrid.residual _scale"),
    ],
)
def test_misspelt_keys(arch: str, key: str, other: str, tmp_path: Path) -> None:
    """Oracle: both names by hand: a default does not take the place of the value in silence."""
    _, metadata, tensors = parts(arch)
    metadata = metadata | {key: metadata.get(key, (10000.0, Type.FLOAT32))}
    braidlm.load(write(tmp_path / "whole.gguf", arch, metadata, tensors))
    renamed = {other if name == key else name: value for name, value in metadata.items()}
    file = write(tmp_path / "file.gguf", arch, renamed, tensors)
    refused(lambda: braidlm.load(file), CheckpointError, repr(other), f"should it be {key!r}?")


def test_unknown_keys_are_left_alone(tmp_path: Path) -> None:
    """Oracle: the same file without them."""
    arch, metadata, tensors = parts("llama")
    more = dict.fromkeys(("llama.a.note", "general.nama", "llama.rope.freq_base2", "other.rope.x"), (1, Type.UINT32))
    metadata |= {"llama.rope.freq_base": (10000.0, Type.FLOAT32)}
    ids = [[1, 2, 3]]
    with_more = braidlm.load(write(tmp_path / "more.gguf", arch, metadata | more, tensors))
    without = braidlm.load(write(tmp_path / "file.gguf", arch, metadata, tensors))
    assert torch.equal(with_more.forward(ids)[0], without.forward(ids)[0])


@pytest.mark.parametrize(
    ("arch", "key", "value", "kind", "words"),
    [
        ("granitehybrid", "granitehybrid.rope.scaling.finetuned", "false", Type.STRING, "must be true or false"),
        ("granitehybrid", "granitehybrid.attention.scale", "", Type.STRING, "must be a finite number"),
        ("llama", "llama.rope.scaling.factor", "2", Type.STRING, "must be a finite number"),
        ("llama", "llama.nextn_predict_layers", "1", Type.STRING, "must be a whole number"),
        ("mamba", "mamba.ssm.dt_b_c_rms", 1, Type.UINT32, "must be true or false"),
        ("llama", "tokenizer.chat_template", 5, Type.UINT32, "is 5, but no text"),
    ],
)
def test_optional_values_of_another_type(
    arch: str, key: str, value: Any, kind: Type, words: str, tmp_path: Path
) -> None:
    """Oracle: the sentence: what is there and wrong is not left out."""
    _, metadata, tensors = parts(arch)
    if key.startswith("tokenizer"):
        metadata |= tables()
    file = write(tmp_path / "file.gguf", arch, metadata | {key: (value, kind)}, tensors)
    refused(lambda: braidlm.load(file), BraidError, words)


@pytest.mark.parametrize("name", ["add_space_prefix", "add_bos_token", "add_eos_token", "remove_extra_whitespaces"])
def test_flags_of_tokenizers(name: str) -> None:
    """Oracle: the sentence: "false" in words is no flag."""
    fields = {key: value for key, (value, _) in tables().items()}
    assert Tokenizer.from_gguf(fields) is not None
    refused(
        lambda: Tokenizer.from_gguf(fields | {f"tokenizer.ggml.{name}": "false"}), CheckpointError, f"{name} is 'fa"
    )


def tables() -> dict[str, Any]:
    """A vocabulary of three pieces."""
    return {
        "tokenizer.ggml.model": ("llama", Type.STRING),
        "tokenizer.ggml.tokens": (["<unk>", "a", "b"], Type.ARRAY),
        "tokenizer.ggml.scores": ([0.0, -1.0, -2.0], Type.ARRAY),
        "tokenizer.ggml.token_type": ([2, 1, 1], Type.ARRAY),
    }
