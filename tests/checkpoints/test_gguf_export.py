"""GGUF files that braidlm writes: read back, and run by llama.cpp where it is installed."""

import ctypes
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, LlamaFileType, quantize
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.checkpoints.gguf import GgufFile
from braidlm.checkpoints.gguf_export import export_gguf
from braidlm.cli.main import app
from braidlm.errors import InputError, SpecError
from braidlm.layers.rotary import rope_frequencies
from braidlm.quant.policy import quantized_weights
from braidlm.spec import Attention, FactorScaling, Llama3Scaling, Mlp, ModelSpec, Rope
from tests.checkpoints.gguf_files import parts, path_of, write
from tests.families.tiny import tiny
from tests.text.made import CHAT, TEMPLATE, TEXTS, TOOL, byte_level, sentencepiece
from tests.tolerances import RELATIVE_A_LOG, RELATIVE_LOGITS, RELATIVE_LOGITS_GGUF_PEER

LlamaCpp: Any = None
if importlib.util.find_spec("llama_cpp") is not None:
    from braidlm.bench.sides.llama_cpp_side import LlamaCpp

# Seeds of `tiny` that GGUF files can express: with experts, without, untied, with linear and Llama 3's scaling, biases.
EXPRESSED = [("mamba", 3), ("mamba", 5), ("mamba2", 0), ("mamba2", 2), ("mamba2", 4)]
EXPRESSED += [("granitemoehybrid", seed) for seed in range(4)] + [("llama", seed) for seed in (1, 3, 4, 10)]


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


def test_llama3_scaling_is_written_as_factors(tmp_path: Path) -> None:
    """Oracle: the angles that the description gives, and the model's own logits."""
    spec = tiny("llama", 4)
    rope = spec.blocks[0].mixer.rope
    assert isinstance(rope.scaling, Llama3Scaling)
    model, path = written(spec, tmp_path, "float32")
    found = braidlm.load(path)
    again = found.spec.blocks[0].mixer.rope
    assert isinstance(again.scaling, FactorScaling)
    assert torch.allclose(rope_frequencies(again), rope_frequencies(rope), rtol=RELATIVE_A_LOG, atol=0)
    ids = torch.arange(1, 90)[None] % spec.vocab
    error = (found.forward(ids) - model.forward(ids)).abs().max() / model.forward(ids).abs().max()
    assert error < RELATIVE_LOGITS[torch.float32]


def test_a_model_without_a_declared_length(tmp_path: Path) -> None:
    """Oracle: the converters' 2^20, since files always declare a length; the logits of the model itself."""
    model, path = written(replace(tiny("granitemoehybrid", 1), max_positions=None), tmp_path, "float32")
    found, ids = braidlm.load(path), torch.arange(20)[None]
    assert found.spec.max_positions == 1 << 20
    error = (found.forward(ids) - model.forward(ids)).abs().max() / model.forward(ids).abs().max()
    assert error < RELATIVE_LOGITS[torch.float32]


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    """Oracle: the sentence."""
    with pytest.raises(InputError, match="must be one of float32, bfloat16, float16"):
        export_gguf(braidlm.build(tiny("mamba", 3)).network, tmp_path / "model.gguf", "int8")


FORMATS = ["int8", "int4"]


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("name", ["llama", "mamba", "mamba2", "granitehybrid"])
def test_quantized_weights_are_written_as_they_are(name: str, weight_format: str, tmp_path: Path) -> None:
    """Oracle: the model that was written: each quantized weight bit for bit, rotary rows and experts among them."""
    model, path = braidlm.load(path_of(name), dtype="float32", quantize=weight_format), tmp_path / "model.gguf"
    types = export_gguf(model.network, path)
    again = braidlm.load(path, dtype="float32", quantize="keep")
    assert again.spec == model.spec
    expected, found = quantized_weights(model.network), quantized_weights(again.network)
    assert found.keys() == expected.keys()
    for weight, quantized in expected.items():
        assert found[weight].kind == quantized.kind
        assert all(torch.equal(*parts) for parts in zip(found[weight].buffers(), quantized.buffers(), strict=True)), (
            weight
        )
    for parameter, values in model.network.named_parameters():
        assert torch.allclose(again.network.get_parameter(parameter), values, rtol=RELATIVE_A_LOG, atol=0), parameter
    assert types.get("Q8_0" if weight_format == "int8" else "Q4_0", 0) > 1
    says = GgufFile(path).fields
    assert (
        LlamaFileType(says["general.file_type"]).name == {"int8": "MOSTLY_Q8_0", "int4": "MOSTLY_Q4_0"}[weight_format]
    )
    assert says["general.quantization_version"] == 2


def test_kept_blocks_come_back(tmp_path: Path) -> None:
    """Oracle: the bytes of the file that was read, of every type that is kept bit for bit."""
    arch, metadata, tensors = parts("granitehybrid")
    kinds = {"ffn_up_exps": Kind.Q4_1, "ffn_gate_exps": Kind.Q4_1, "attn_q": Kind.Q4_0, "token_embd": Kind.Q8_0}
    stored = {
        name: (quantize(tensor, kind), kind)
        for name, tensor in tensors.items()
        for part, kind in kinds.items()
        if f"{part}.weight" in name
    }
    source = GgufFile(write(tmp_path / "source.gguf", arch, metadata, tensors | stored))
    export_gguf(braidlm.load(source.path, dtype="float32", quantize="keep").network, tmp_path / "model.gguf")
    found = GgufFile(tmp_path / "model.gguf")
    assert found.names() == source.names()
    for name in stored:
        assert found.quantization(name) == source.quantization(name)
        assert np.array_equal(found.blocks(name), source.blocks(name)), name


def test_weights_in_fp8(tmp_path: Path) -> None:
    """Oracle: the sentence; asked for, they are written in full, and read back as what they stand for."""
    model, path = braidlm.load(path_of("mamba2"), dtype="float32", quantize="fp8"), tmp_path / "model.gguf"
    with pytest.raises(InputError, match=r"is in fp8, which GGUF files do not have; --dtype bfloat16 writes it"):
        export_gguf(model.network, path)
    assert list(tmp_path.iterdir()) == []
    export_gguf(model.network, path, "float32", dequantize=True)
    again = braidlm.load(path).network
    for name, weight in quantized_weights(model.network).items():
        assert torch.equal(again.get_parameter(name), weight.dequantize(torch.float32))


def test_numbers_too_large_for_float16(tmp_path: Path) -> None:
    """Oracle: the sentence names the tensor; nothing is written."""
    model = braidlm.build(tiny("mamba2", 0))
    with torch.no_grad():
        model.network.embed.weight[3, 3] = 1e6
    with pytest.raises(InputError, match=r"token_embd\.weight has numbers that float16 cannot hold"):
        export_gguf(model.network, tmp_path / "model.gguf", "float16")
    assert list(tmp_path.iterdir()) == []


def braid(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout.splitlines()[-1])


def with_tokenizer(model: LanguageModel) -> LanguageModel:
    model.tokenizer = byte_level()
    return model


def spoken(spec: ModelSpec) -> ModelSpec:
    """The description with a row for each token of the small tokenizer, and one more."""
    return replace(spec, vocab=300)


@pytest.mark.parametrize("family", ["llama", "mamba", "mamba2", "granitemoehybrid"])
def test_on_the_command_line(family: str, tmp_path: Path) -> None:
    """Oracle: the model in the directory: weights, tokenizer, template; nothing of the user's is overwritten."""
    seed = dict(EXPRESSED)[family]
    model = with_tokenizer(braidlm.build(spoken(tiny(family, seed)), dtype="bfloat16"))
    model.save(tmp_path / "model")
    target = tmp_path / "again.gguf"
    said = braid("convert", str(tmp_path / "model"), str(target))
    assert (said["files"], said["format"], said["tokenizer"]) == (["again.gguf"], "gguf", True)
    assert said["bytes"] == target.stat().st_size and said["types"]["BF16"] > 1
    found = braidlm.load(target)
    assert found.network.dtype == torch.bfloat16
    for name, parameter in model.network.named_parameters():
        assert torch.allclose(found.network.get_parameter(name), parameter, rtol=RELATIVE_A_LOG, atol=0), name
    for text in TEXTS:
        assert found.tokenizer.encode(text) == model.tokenizer.encode(text)
    assert found.encode(CHAT) == model.encode(CHAT)
    assert found.tokenizer.chat_template == TEMPLATE
    assert GgufFile(target).fields["general.name"] == "model"
    with pytest.raises(InputError, match="exists already"):
        braid("convert", str(tmp_path / "model"), str(target))


def test_precision_is_the_models_own(tmp_path: Path) -> None:
    """Oracle: the storage types of the source, from a directory in float16 and from a GGUF file of each kind."""
    model = braidlm.build(tiny("mamba2", 0))
    model.save(tmp_path / "half")
    tensors = {name: tensor.half() for name, tensor in load_file(tmp_path / "half" / "model.safetensors").items()}
    save_file(tensors, tmp_path / "half" / "model.safetensors")
    for name, options in (("a", ()), ("b", ("--dtype", "float16")), ("c", ("--dtype", "fp16"))):
        assert braid("convert", str(tmp_path / "half"), str(tmp_path / f"{name}.gguf"), *options)["types"]["F16"] > 1
    assert braid("convert", str(tmp_path / "half"), str(tmp_path / "d.gguf"), "--dtype", "bf16")["types"]["BF16"] > 1
    arch, metadata, plain = parts("llama")
    matrices = {name: tensor for name, tensor in plain.items() if tensor.ndim == 2 and tensor.shape[1] % 32 == 0}
    for kind in (Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1):
        stored = {name: (quantize(tensor, kind), kind) for name, tensor in matrices.items()}
        source = write(tmp_path / "source.gguf", arch, metadata, plain | stored)
        target = tmp_path / f"again-{kind.name}.gguf"
        assert braid("convert", str(source), str(target))["types"][kind.name] >= len(matrices)
        found, expected = GgufFile(target), GgufFile(source)
        assert all(np.array_equal(found.get(name), expected.get(name)) for name in matrices if kind != Kind.BF16)


@pytest.mark.parametrize(("option", "kind"), [(("--quantize", "int8"), "Q8_0"), (("--quantize", "int4"), "Q4_0")])
def test_quantizing_on_the_command_line(option: tuple[str, str], kind: str, tmp_path: Path) -> None:
    """Oracle: `load` with the same quantization, through the other command too."""
    source = str(path_of("granitehybrid"))
    assert braid("convert", source, str(tmp_path / "a.gguf"), *option)["types"][kind] > 4
    braid("quantize", source, str(tmp_path / "b.gguf"), "--bits", option[1][-1], "--dtype", "float32")
    expected = quantized_weights(braidlm.load(source, quantize=option[1]).network)
    for file in ("a.gguf", "b.gguf"):
        found = quantized_weights(braidlm.load(tmp_path / file, quantize="keep").network)
        assert {name: weight.kind for name, weight in found.items()} == {n: w.kind for n, w in expected.items()}
        assert all(torch.equal(found[name].data, weight.data) for name, weight in expected.items())


def test_a_directory_with_quantized_weights(tmp_path: Path) -> None:
    """Oracle: the quantized weights in braidlm's own directory, bit for bit; those in fp8 in full if asked."""
    braid("quantize", str(path_of("mamba2")), str(tmp_path / "int8"), "--bits", "8")
    assert braid("convert", str(tmp_path / "int8"), str(tmp_path / "model.gguf"))["types"]["Q8_0"] > 1
    expected = quantized_weights(braidlm.load(tmp_path / "int8").network)
    found = quantized_weights(braidlm.load(tmp_path / "model.gguf", quantize="keep").network)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name].data, weight.data) for name, weight in expected.items())
    braid("quantize", str(path_of("mamba2")), str(tmp_path / "fp8"), "--bits", "fp8")
    with pytest.raises(InputError, match="is in fp8, which GGUF files do not have"):
        braid("convert", str(tmp_path / "fp8"), str(tmp_path / "narrow.gguf"))
    assert braid("convert", str(tmp_path / "fp8"), str(tmp_path / "full.gguf"), "--dtype", "bf16")["types"]["BF16"] > 1


def test_types_that_are_rounded_are_named(tmp_path: Path) -> None:
    """Oracle: the sentence on standard error, which says how to write them exactly."""
    arch, metadata, tensors = parts("llama")
    name = "blk.0.ffn_up.weight"
    file = write(
        tmp_path / "source.gguf", arch, metadata, tensors | {name: (quantize(tensors[name], Kind.Q5_0), Kind.Q5_0)}
    )
    done = CliRunner().invoke(app, ["convert", str(file), str(tmp_path / "out.gguf")])
    assert "weights in Q5_0 are rounded" in done.stderr and "--dtype float32 writes them exactly" in done.stderr
    assert "has no tokenizer, and so out.gguf has none" in done.stderr
    assert GgufFile(tmp_path / "out.gguf").quantization(name) == "Q8_0"
    braid("convert", str(file), str(tmp_path / "exact.gguf"), "--dtype", "float32")
    assert np.array_equal(GgufFile(tmp_path / "exact.gguf").get(name), GgufFile(file).get(name))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("convert", "x.gguf", "--quantize", "fp8"), "GGUF files can have int8, int4, keep"),
        (("convert", "x.gguf", "--dtype", "float64"), "matrices must be one of float32, bfloat16, float16"),
        (("quantize", "x.gguf", "--bits", "fp8"), "GGUF files have no fp8"),
        (("convert", f"{'x' * 300}.gguf"), "File name too long"),
        (("quantize", f"{'x' * 300}.gguf"), "File name too long"),
        (("convert", "directory", "--quantize", "int8"), "are for GGUF files"),
        (("convert", "directory", "--no-tokenizer"), "are for GGUF files"),
    ],
)
def test_options_that_do_not_fit(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    """Oracle: the sentence, before the model is read."""
    command, target, *options = arguments
    with pytest.raises(InputError, match=words):
        braid(command, str(path_of("mamba2")), str(tmp_path / target), *options)


def test_without_a_tokenizer(tmp_path: Path) -> None:
    """Oracle: --no-tokenizer leaves it out; the file is read by token ids."""
    with_tokenizer(braidlm.build(spoken(tiny("mamba2", 0)))).save(tmp_path / "model")
    said = braid("convert", str(tmp_path / "model"), str(tmp_path / "bare.gguf"), "--no-tokenizer")
    assert said["tokenizer"] is False
    assert braidlm.load(tmp_path / "bare.gguf").tokenizer is None


@pytest.mark.skipif(LlamaCpp is None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize(("family", "seed"), EXPRESSED)
def test_llama_cpp_agrees(family: str, seed: int, tmp_path: Path) -> None:
    """Oracle: llama.cpp on the exported file."""
    model, path = written(tiny(family, seed), tmp_path, "float32")
    ids = torch.arange(1, 21) % model.spec.vocab
    side = LlamaCpp()
    side.load(str(path), "f32", 1)
    found = side.last_logits(ids.tolist())
    expected = model.forward(ids[None])[0, -1].numpy()
    assert np.abs(found - expected).max() < RELATIVE_LOGITS_GGUF_PEER * np.abs(expected).max()


class Peer(LlamaCpp if LlamaCpp is not None else object):
    """llama.cpp with its tokenizer, keys and values in float32."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text that may spell control tokens, with what the model wants around it."""
        raw, vocab = text.encode(), self.library.llama_model_get_vocab(self._model)
        ids = (ctypes.c_int32 * (len(raw) + 8))()
        return ids[: self.library.llama_tokenize(vocab, raw, len(raw), ids, len(ids), True, True)]

    def template(self) -> str:
        return self.library.llama_model_chat_template(self._model, None).decode()

    def greedy(self, ids: list[int], count: int) -> list[int]:
        context, found = self._context(len(ids) + count, 1, 64), []
        self._run(context, ids, [0] * len(ids), 0)
        place = len(ids) - 1
        for step in range(count):
            found.append(int(self._logits(context, place).argmax()))
            self._run(context, found[-1:], [0], len(ids) + step)
            place = 0
        return found


@pytest.mark.skipif(LlamaCpp is None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize(("family", "seed"), [("llama", 10), ("mamba2", 0), ("granitemoehybrid", 1), ("mamba", 3)])
def test_llama_cpp_chats(family: str, seed: int, tmp_path: Path) -> None:
    """Oracle: llama.cpp on the exported file: ids of texts and of a chat, the template, 32 greedy tokens."""
    spec = replace(tiny(family, seed), vocab=byte_level().vocab_size)
    model, path = with_tokenizer(braidlm.build(spec, seed=1)), tmp_path / "model.gguf"
    export_gguf(model.network, path, tokenizer=model.tokenizer)
    peer = Peer()
    peer.load(str(path), "f32", 1)
    for text in TEXTS:
        assert peer.encode(text) == model.tokenizer.encode(text)
    assert peer.template() == TEMPLATE
    chat = model.encode(CHAT)
    assert peer.encode(model.tokenizer.render(CHAT)) == chat
    greedy = [token.id for token in model.stream(CHAT, temperature=0.0, max_tokens=32)]
    assert peer.greedy(chat, len(greedy)) == greedy


@pytest.mark.skipif(LlamaCpp is None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("prefix", [True, False])
def test_llama_cpp_reads_pieces(prefix: bool, tmp_path: Path) -> None:
    """Oracle: llama.cpp's SentencePiece on the exported file."""
    tokenizer = sentencepiece(add_space_prefix=prefix)
    model = braidlm.build(replace(tiny("mamba2", 0), vocab=tokenizer.vocab_size))
    export_gguf(model.network, tmp_path / "model.gguf", tokenizer=tokenizer)
    peer = Peer()
    peer.load(str(tmp_path / "model.gguf"), "f32", 1)
    for text in (*TEXTS, " the ab", "cab  coat", f"x{TOOL} y", "a</s>b"):
        assert peer.encode(text) == tokenizer.encode(text)
