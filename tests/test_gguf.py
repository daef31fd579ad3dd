"""GGUF files: llama.cpp's own, every storage type, and files that are none."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFValueType
from safetensors.torch import load_file

import braidlm
from braidlm.api import LanguageModel
from braidlm.errors import BraidError, CheckpointError, InputError, SpecError
from braidlm.gguf import GgufFile
from tests.tolerances import RELATIVE_A_LOG, RELATIVE_LOGITS

GOLDEN = Path(__file__).parent / "golden"
BESIDE = {"llama": "llama", "mamba": "mamba", "mamba2": "mamba2", "granitehybrid": "granitemoehybrid"}
QUANTIZED = (Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.TQ1_0, Kind.TQ2_0, Kind.MXFP4)
# The gguf package reads these but does not make them; any bytes mean something.
READ_ONLY = (Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.IQ4_NL, Kind.IQ4_XS)

Tensors = Mapping[str, np.ndarray | tuple[np.ndarray, Kind]]


def path_of(name: str) -> Path:
    return GOLDEN / "gguf" / f"{name}.gguf"


@cache
def converted(name: str) -> LanguageModel:
    return braidlm.load(path_of(name))


def write(path: Path, arch: str, metadata: Mapping[str, tuple[Any, Any]], tensors: Tensors) -> Path:
    """A GGUF file; a tensor is numbers, or bytes and what they are."""
    writer = gguf.GGUFWriter(path, arch)
    for key, (value, kind) in metadata.items():
        writer.add_key_value(key, value, kind)
    for name, tensor in tensors.items():
        if isinstance(tensor, tuple):
            writer.add_tensor(name, tensor[0], raw_dtype=tensor[1])
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def parts(name: str) -> tuple[str, dict[str, tuple[Any, Any]], dict[str, Any]]:
    """Architecture, metadata and tensors of one of llama.cpp's files."""
    reader = gguf.GGUFReader(path_of(name))
    fields = {key: (field.contents(), field.types[0]) for key, field in reader.fields.items()}
    arch, _ = fields.pop("general.architecture")
    own = {key: value for key, value in fields.items() if not key.startswith("GGUF.")}
    return arch, own, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def one(path: Path, tensor: np.ndarray, kind: Kind | None = None) -> GgufFile:
    """A file with one tensor."""
    return GgufFile(write(path / "file.gguf", "llama", {}, {"t": tensor if kind is None else (tensor, kind)}))


def same_bits(found: torch.Tensor, expected: np.ndarray) -> bool:
    """Equal in shape, kind and every bit, so that nan is nan."""
    raw = found.contiguous().view(torch.uint8).numpy().tobytes()
    return tuple(found.shape) == expected.shape and found.numpy().dtype == expected.dtype and raw == expected.tobytes()


def refused(act: Callable[[], Any], kind: type[BraidError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        act()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# --- llama.cpp's files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize(("ids", "logits"), [("input_ids", "logits"), ("input_ids_long", "logits_long")])
def test_logits_of_converted_checkpoints(name: str, ids: str, logits: str) -> None:
    """Oracle: golden logits of the reference implementation for the checkpoint that llama.cpp converted."""
    golden = load_file(GOLDEN / BESIDE[name] / "golden.safetensors")
    error = (converted(name).forward(golden[ids]) - golden[logits]).abs().max() / golden[logits].abs().max()
    assert error < RELATIVE_LOGITS[torch.float32]


@pytest.mark.parametrize("name", BESIDE)
def test_weights_of_converted_checkpoints(name: str) -> None:
    """Oracle: the safetensors checkpoint, bit for bit but for a logarithm that was undone and done again."""
    theirs = dict(braidlm.load(GOLDEN / BESIDE[name], dtype="float32").network.named_parameters())
    ours = dict(converted(name).network.named_parameters())
    assert ours.keys() == theirs.keys()
    for parameter, expected in theirs.items():
        found = ours[parameter]
        if parameter.endswith("a_log"):
            assert (found - expected).abs().max() <= RELATIVE_A_LOG * expected.abs().max()
        else:
            assert torch.equal(found, expected)


@pytest.mark.parametrize("name", BESIDE)
def test_what_a_file_says(name: str) -> None:
    """Oracle: the gguf package on the same file."""
    file, reader = GgufFile(path_of(name)), gguf.GGUFReader(path_of(name))
    assert file.arch == reader.fields["general.architecture"].contents()
    assert file.names() == {tensor.name for tensor in reader.tensors}
    assert dict(file.fields) == {key: field.contents() for key, field in reader.fields.items()}
    assert len(file.fields) == len(reader.fields)
    prefix = f"{file.arch}."
    assert {prefix + key for key in file.model_fields()} == {key for key in reader.fields if key.startswith(prefix)}
    for tensor in reader.tensors:
        assert file.shapes[tensor.name] == tensor.data.shape
        assert file.quantization(tensor.name) == "F32"
        assert same_bits(file.get(tensor.name), tensor.data)


@pytest.mark.parametrize("name", BESIDE)
def test_description_of_converted_checkpoints(name: str) -> None:
    """Oracle: the published config beside the file, for all that says how large the model is."""
    ours, theirs = braidlm.loading.read_spec(path_of(name)), braidlm.loading.read_spec(GOLDEN / BESIDE[name])
    assert ours == converted(name).spec
    for spec in (ours, theirs):
        assert (spec.vocab, spec.width, spec.tied) == (theirs.vocab, theirs.width, theirs.tied)
    assert ours.slots == theirs.slots
    for length in (0, 7, 1000):
        assert ours.state_bytes(length) == theirs.state_bytes(length)


# --- storage types -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("shape", [(512,), (3, 256), (2, 3, 256)], ids=str)
def test_quantized_tensors(kind: Kind, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Oracle: gguf.dequantize of the same bytes, bit for bit."""
    stored = gguf.quantize(numbers(*shape), kind)
    file = one(tmp_path, stored, kind)
    expected = gguf.dequantize(stored, kind)
    assert file.quantization("t") == kind.name
    assert file.shapes["t"] == shape
    assert np.abs(expected).max() > 0
    assert same_bits(file.get("t"), expected)


@pytest.mark.parametrize("kind", READ_ONLY, ids=lambda kind: kind.name)
def test_k_quants(kind: Kind, tmp_path: Path) -> None:
    """Oracle: gguf.dequantize of the same random bytes, bit for bit."""
    size = gguf.quant_shape_to_byte_shape((6, 512), kind)
    # Bytes below 124 make no half-precision number infinite.
    stored = np.random.default_rng(1).integers(0, 124, size, dtype=np.uint8)
    file = one(tmp_path, stored, kind)
    assert file.quantization("t") == kind.name
    assert file.shapes["t"] == (6, 512)
    assert same_bits(file.get("t"), gguf.dequantize(stored, kind))


def test_q8_by_definition(tmp_path: Path) -> None:
    """Oracle: the definition: blocks of one half-precision scale and 32 signed bytes."""
    stored = gguf.quantize(numbers(5, 64), Kind.Q8_0)
    blocks = stored.reshape(5, 2, 34)
    scale = blocks[..., :2].copy().view(np.float16).astype(np.float32)
    expected = (scale * blocks[..., 2:].view(np.int8).astype(np.float32)).reshape(5, 64)
    assert same_bits(one(tmp_path, stored, Kind.Q8_0).get("t"), expected)


def test_q4_by_definition(tmp_path: Path) -> None:
    """Oracle: the definition: a scale and 32 half bytes less 8, the low halves before the high ones."""
    stored = gguf.quantize(numbers(5, 64), Kind.Q4_0)
    blocks = stored.reshape(5, 2, 18)
    scale = blocks[..., :2].copy().view(np.float16).astype(np.float32)
    halves = np.concatenate([blocks[..., 2:] & 15, blocks[..., 2:] >> 4], -1).astype(np.int8) - 8
    expected = (scale * halves.astype(np.float32)).reshape(5, 64)
    assert same_bits(one(tmp_path, stored, Kind.Q4_0).get("t"), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64"])
def test_plain_tensors(dtype: str, tmp_path: Path) -> None:
    """Oracle: the array that was written."""
    array = (numbers(4, 3, 6) * 50).astype(dtype)
    file = one(tmp_path, array)
    assert file.shapes["t"] == (4, 3, 6)
    assert same_bits(file.get("t"), array)


def test_bfloat16_tensors(tmp_path: Path) -> None:
    """Oracle: torch's bfloat16 with the same bits, and gguf.dequantize for the values."""
    stored = gguf.quantize(numbers(3, 10), Kind.BF16)
    found = one(tmp_path, stored, Kind.BF16).get("t")
    assert found.dtype == torch.bfloat16
    assert same_bits(found.float(), gguf.dequantize(stored, Kind.BF16))
    assert torch.equal(found, torch.from_numpy(numbers(3, 10)).bfloat16())


def test_a_storage_type_that_cannot_be_read(tmp_path: Path) -> None:
    """Oracle: the tensor and its type are named; the rest of the file can be read."""
    stored = np.zeros(gguf.quant_shape_to_byte_shape((2, 256), Kind.Q8_K), np.uint8)
    file = GgufFile(write(tmp_path / "file.gguf", "llama", {}, {"a": (stored, Kind.Q8_K), "b": numbers(3)}))
    refused(lambda: file.get("a"), CheckpointError, "tensor a", "Q8_K")
    assert same_bits(file.get("b"), numbers(3))


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.F16], ids=lambda kind: kind.name)
def test_a_quantized_model(kind: Kind, tmp_path: Path) -> None:
    """Oracle: the model of a file that holds the dequantized values as float32, bit for bit."""
    arch, metadata, tensors = parts("llama")
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 2 and tensor.shape[1] % 32 == 0}
    stored = {name: gguf.quantize(tensor, kind) for name, tensor in matrices.items()}
    small = write(tmp_path / "small.gguf", arch, metadata, tensors | {n: (t, kind) for n, t in stored.items()})
    plain = tensors | {name: gguf.dequantize(tensor, kind) for name, tensor in stored.items()}
    large = write(tmp_path / "large.gguf", arch, metadata, plain)
    assert small.stat().st_size < 0.7 * large.stat().st_size
    ids = torch.arange(40)[None]
    found, expected = braidlm.load(small), braidlm.load(large)
    assert found.network.dtype == torch.float32
    assert torch.equal(found.forward(ids), expected.forward(ids))
    assert not torch.equal(found.forward(ids), converted("llama").forward(ids))


def test_a_bfloat16_model(tmp_path: Path) -> None:
    """Oracle: the safetensors checkpoint rounded to bfloat16; its dtype is kept."""
    arch, metadata, tensors = parts("llama")
    stored = {n: (gguf.quantize(t, Kind.BF16), Kind.BF16) for n, t in tensors.items() if t.ndim == 2}
    found = braidlm.load(write(tmp_path / "file.gguf", arch, metadata, tensors | stored))
    assert found.network.dtype == torch.bfloat16
    expected = dict(braidlm.load(GOLDEN / "llama", dtype="bfloat16").network.named_parameters())
    for name, parameter in found.network.named_parameters():
        assert torch.equal(parameter, expected[name])


# --- files that are wrong ------------------------------------------------------------------------------------


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
    metadata["llama.rope.scaling.type"] = ("yarn", GGUFValueType.STRING)
    refused(lambda: braidlm.load(write(tmp_path / "f.gguf", arch, metadata, tensors)), SpecError, "'yarn'")


# --- the file stays as it is ---------------------------------------------------------------------------------


def test_writing_to_a_tensor_leaves_the_file(tmp_path: Path) -> None:
    """Oracle: the file's bytes; tensors are views of it that can be written to all the same."""
    path = tmp_path / "copy.gguf"
    path.write_bytes(path_of("llama").read_bytes())
    file = GgufFile(path)
    for name in file.names():
        file.get(name).fill_(7)
    model = braidlm.load(path)
    expected = model.forward(torch.tensor([[1, 2, 3]]))
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(2)
    assert path.read_bytes() == path_of("llama").read_bytes()
    assert torch.equal(braidlm.load(path).forward(torch.tensor([[1, 2, 3]])), expected)


def test_plain_tensors_are_not_copied() -> None:
    """Oracle: one memory under two tensors."""
    file = GgufFile(path_of("llama"))
    assert file.get("output.weight").data_ptr() == file.get("output.weight").data_ptr()


# --- tokenizers in files -------------------------------------------------------------------------------------


def test_tokenizer_in_a_file(tmp_path: Path) -> None:
    """Oracle: by hand: the tables of a small SentencePiece vocabulary, its template and its end."""
    arch, metadata, tensors = parts("llama")
    tokens = ["<unk>", "<s>", "</s>", "▁", "h", "i", "hi", "▁hi"]
    text, whole = GGUFValueType.STRING, GGUFValueType.UINT32
    metadata |= {
        "tokenizer.ggml.model": ("llama", text),
        "tokenizer.ggml.tokens": (tokens, GGUFValueType.ARRAY),
        "tokenizer.ggml.scores": ([0.0] * 6 + [-1.0, -2.0], GGUFValueType.ARRAY),
        "tokenizer.ggml.token_type": ([2, 3, 3, 1, 1, 1, 1, 1], GGUFValueType.ARRAY),
        "tokenizer.ggml.bos_token_id": (1, whole),
        "tokenizer.ggml.eos_token_id": (2, whole),
        "tokenizer.chat_template": ("{{ messages[0].content }}{{ eos_token }}", text),
    }
    model = braidlm.load(write(tmp_path / "file.gguf", arch, metadata, tensors))
    assert model.encode("hi hi") == [1, 7, 7]
    assert model.encode([{"role": "user", "content": "hihi"}]) == [7, 6, 2]
    assert model.tokenizer.decode([1, 7, 6, 2]) == "hihi"
    assert model.origin.ends == (2,)
    assert converted("llama").tokenizer is None
