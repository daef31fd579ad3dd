"""GGUF files: llama.cpp's own, every storage type, tokenizers; the file stays as it is."""

from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFValueType
from safetensors.torch import load_file

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.checkpoints.gguf import GgufFile
from braidlm.errors import CheckpointError
from tests.checkpoints.gguf_files import GOLDEN, numbers, parts, path_of, refused, write
from tests.tolerances import RELATIVE_A_LOG, RELATIVE_LOGITS

BESIDE = {"llama": "llama", "mamba": "mamba", "mamba2": "mamba2", "granitehybrid": "granitemoehybrid"}
QUANTIZED = (Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.TQ1_0, Kind.TQ2_0, Kind.MXFP4)
# The gguf package reads these but does not make them; any bytes mean something.
READ_ONLY = (Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.IQ4_NL, Kind.IQ4_XS)


@cache
def converted(name: str) -> LanguageModel:
    return braidlm.load(path_of(name))


def one(path: Path, tensor: np.ndarray, kind: Kind | None = None) -> GgufFile:
    """A file with one tensor."""
    return GgufFile(write(path / "file.gguf", "llama", {}, {"t": tensor if kind is None else (tensor, kind)}))


def same_bits(found: torch.Tensor, expected: np.ndarray) -> bool:
    """Equal in shape, kind and every bit, so that nan is nan."""
    raw = found.contiguous().view(torch.uint8).numpy().tobytes()
    return tuple(found.shape) == expected.shape and found.numpy().dtype == expected.dtype and raw == expected.tobytes()


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
    wanted = dict(braidlm.load(GOLDEN / BESIDE[name], dtype="float32").network.named_parameters())
    actual = dict(converted(name).network.named_parameters())
    assert actual.keys() == wanted.keys()
    for parameter, expected in wanted.items():
        found = actual[parameter]
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
    # The package counts three numbers of the header as metadata.
    expected = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert dict(file.fields) == expected
    assert len(file.fields) == len(expected)
    prefix = f"{file.arch}."
    assert {prefix + key for key in file.model_fields()} == {key for key in reader.fields if key.startswith(prefix)}
    for tensor in reader.tensors:
        assert file.shapes[tensor.name] == tensor.data.shape
        assert file.quantization(tensor.name) == "F32"
        assert same_bits(file.get(tensor.name), tensor.data)


@pytest.mark.parametrize("name", BESIDE)
def test_description_of_converted_checkpoints(name: str) -> None:
    """Oracle: the published config beside the file, for all that says how large the model is."""
    actual, wanted = braidlm.api.loading.read_spec(path_of(name)), braidlm.api.loading.read_spec(GOLDEN / BESIDE[name])
    assert actual == converted(name).spec
    for spec in (actual, wanted):
        assert (spec.vocab, spec.width, spec.tied) == (wanted.vocab, wanted.width, wanted.tied)
    assert actual.state_specs == wanted.state_specs
    for length in (0, 7, 1000):
        assert actual.state_bytes(length) == wanted.state_bytes(length)


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


def test_a_quantized_vector(tmp_path: Path) -> None:
    """Oracle: the model of a file that holds the dequantized values as float32, bit for bit."""
    arch, metadata, tensors = parts("llama")
    name = "blk.0.attn_norm.weight"
    stored = gguf.quantize(tensors[name], Kind.Q8_0)
    found = braidlm.load(write(tmp_path / "small.gguf", arch, metadata, tensors | {name: (stored, Kind.Q8_0)}))
    plain = tensors | {name: gguf.dequantize(stored, Kind.Q8_0)}
    expected = braidlm.load(write(tmp_path / "large.gguf", arch, metadata, plain))
    ids = torch.arange(40)[None]
    assert torch.equal(found.forward(ids), expected.forward(ids))


def test_a_bfloat16_model(tmp_path: Path) -> None:
    """Oracle: the safetensors checkpoint rounded to bfloat16; its dtype is kept."""
    arch, metadata, tensors = parts("llama")
    stored = {n: (gguf.quantize(t, Kind.BF16), Kind.BF16) for n, t in tensors.items() if t.ndim == 2}
    found = braidlm.load(write(tmp_path / "file.gguf", arch, metadata, tensors | stored))
    assert found.network.dtype == torch.bfloat16
    expected = dict(braidlm.load(GOLDEN / "llama", dtype="bfloat16").network.named_parameters())
    for name, parameter in found.network.named_parameters():
        assert torch.equal(parameter, expected[name])


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
