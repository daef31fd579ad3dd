"""Weights in fp8 with scales: read exactly, kept exactly, close to the model that they were made from."""

import importlib.util
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from torch import Tensor

import braidlm
from braidlm.api import loading
from braidlm.checkpoints.fp8 import Fp8Tensors
from braidlm.checkpoints.fp8_config import Fp8, read_fp8
from braidlm.errors import CheckpointError, InputError, LoadingWarning
from braidlm.quant.policy import policy_of, quantized_weights
from tests.checkpoints.files import Tensors, digest_of, edit_config, edit_tensors, tiny_checkpoint
from tests.checkpoints.fp8_files import LAYOUTS, by_block, by_row, by_tensor, plain_blocks, to_fp8
from tests.tolerances import DIVERGENCE_FP8_CHECKPOINT

FAMILIES = ("mamba2", "stripedhyena", "hymba", "bamba", "granitemoehybrid", "llama")


class Table:
    """A source of tensors in memory."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors

    def names(self) -> set[str]:
        return set(self.tensors)

    def get(self, name: str) -> Tensor:
        return self.tensors[name]


def pair(directory: Path, family: str, layout: str, dtype: str = "float32") -> tuple[Path, Path]:
    """A checkpoint in fp8, and one of the same values as they are."""
    plain = tiny_checkpoint(directory / "plain", family, dtype=dtype)
    scaled = Path(shutil.copytree(plain, directory / "fp8"))
    values = to_fp8(scaled, layout)
    edit_tensors(plain, lambda tensors: tensors.update(values))
    return scaled, plain


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_values(family: str, layout: str, tmp_path: Path) -> None:
    """Oracle: a checkpoint of each number times its scale, computed plainly; bits, in two dtypes and of every rule."""
    scaled, plain = pair(tmp_path, family, layout)
    assert digest_of(scaled, dtype="float32") == digest_of(plain, dtype="float32")
    assert digest_of(scaled, dtype="bfloat16") == digest_of(plain, dtype="bfloat16")
    assert digest_of(scaled, quantize="int8") == digest_of(plain, quantize="int8")


def test_dtype_of_the_rest(tmp_path: Path) -> None:
    """Oracle: by hand: "auto" is the dtype of the largest tensor not in fp8, and bfloat16 for quantized weights."""
    for dtype in ("float32", "bfloat16"):
        scaled, _ = pair(tmp_path / dtype, "llama", "tensor", dtype)
        assert braidlm.load(scaled).network.dtype == getattr(torch, dtype)
        assert braidlm.load(scaled, quantize="keep").network.dtype == torch.bfloat16


@pytest.mark.parametrize("layout", ["tensor", "channel"])
@pytest.mark.parametrize("family", FAMILIES)
def test_kept(family: str, layout: str, tmp_path: Path) -> None:
    """Oracle: the plain values, bit for bit, in quantized weights that also follow rules which split and stack."""
    scaled, plain = pair(tmp_path, family, layout)
    expected = braidlm.load(plain, dtype="float32").network
    kept = braidlm.load(scaled, dtype="float32", quantize="keep").network
    assert quantized_weights(kept)
    assert quantized_weights(kept).keys() <= policy_of(expected, "fp8").keys()
    assert digest_of(scaled, dtype="float32", quantize="fp8") == kept.weights.fingerprint()
    for name, weight in quantized_weights(kept).items():
        assert weight.weight_format == "fp8"
        assert torch.equal(weight.dequantize(torch.float32), expected.get_parameter(name)), name
    for name, parameter in kept.named_parameters():
        assert torch.equal(parameter, expected.get_parameter(name)), name


def test_kept_from_many_tensors(tmp_path: Path) -> None:
    """Oracle: the number of weights: the splits of Granite's fused gate and up keep their own rows' scales."""
    scaled, _ = pair(tmp_path, "granitemoehybrid", "channel")
    names = quantized_weights(braidlm.load(scaled, quantize="keep").network)
    assert any("gate_proj" in name for name in names)
    assert any("up_proj" in name for name in names)


def test_blocks_are_not_kept(tmp_path: Path) -> None:
    """Oracle: by hand: dequantized, or quantized anew from the exact values; both said."""
    scaled, plain = pair(tmp_path, "llama", "small block")
    count = len([name for name in json_names(scaled) if name.endswith("_scale_inv")])
    with pytest.warns(LoadingWarning, match=rf"^{count} weights in fp8 .* were dequantized to torch\.float32: model"):
        found = braidlm.load(scaled, dtype="float32", quantize="keep")
    assert not quantized_weights(found.network)
    assert found.network.weights.fingerprint() == digest_of(plain, dtype="float32")
    with pytest.warns(LoadingWarning, match="rounded anew to fp8 with one scale a row"):
        anew = quantized_weights(braidlm.load(scaled, quantize="fp8").network)
    assert len(anew) == count
    expected = quantized_weights(braidlm.load(plain, quantize="fp8").network)
    for name, weight in anew.items():
        assert torch.equal(weight.dequantize(torch.float32), expected[name].dequantize(torch.float32))


def json_names(directory: Path) -> set[str]:
    """Names of all tensors of a checkpoint."""
    with safe_open(directory / "model.safetensors", "pt") as file:
        return set(file.keys())


def test_saved_without_stale_config(tmp_path: Path) -> None:
    """Oracle: the plain checkpoint: what is saved is plain and says so; kept weights save as ours, to the bit."""
    scaled, plain = pair(tmp_path, "llama", "channel")
    braidlm.load(scaled, dtype="float32").save(tmp_path / "out")
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert digest_of(tmp_path / "out", dtype="float32") == digest_of(plain, dtype="float32")
    kept = braidlm.load(scaled, dtype="float32", quantize="keep")
    kept.save(tmp_path / "own", "braidlm")
    assert digest_of(tmp_path / "own") == kept.network.weights.fingerprint()
    assert "quantization_config" not in (tmp_path / "own" / "braidlm.json").read_text()
    with pytest.raises(InputError, match="quantized"):
        kept.save(tmp_path / "hf")
    assert loading.read_spec(scaled) == kept.spec


SHAPES = [  # of q, of the scale; how the scale spreads over q
    ((6, 8), (), lambda s: s),
    ((6, 8), (1,), lambda s: s),
    ((6, 8), (1, 1), lambda s: s),
    ((6, 8), (6,), lambda s: s[:, None]),
    ((6, 8), (6, 1), lambda s: s),
    ((3, 6, 8), (), lambda s: s),
    ((3, 6, 8), (3,), lambda s: s[:, None, None]),
    ((3, 6, 8), (3, 1), lambda s: s[:, :, None]),
    ((3, 6, 8), (3, 1, 1), lambda s: s),
    ((3, 6, 8), (3, 6), lambda s: s[:, :, None]),
    ((3, 6, 8), (3, 6, 1), lambda s: s),
    ((6, 8), (2, 3), lambda s: s.repeat_interleave(4, 0)[:6].repeat_interleave(3, 1)[:, :8]),
    ((3, 6, 8), (3, 2, 3), lambda s: s.repeat_interleave(4, 1)[:, :6].repeat_interleave(3, 2)[..., :8]),
    ((9,), (), lambda s: s),
]


@pytest.mark.parametrize("end", ["x.weight_scale", "x.weight_scale_inv", "x.scale", "x.qscale_weight"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_layouts(end: str, dtype: torch.dtype, kind: torch.dtype) -> None:
    """Oracle: broadcasting by hand, for every shape and name that a scale comes in; blocks of 4 by 3 with edges."""
    generator = torch.Generator().manual_seed(0)
    for shape, of_scale, spread in SHAPES:
        q = torch.randn(shape, generator=generator).to(kind)
        scale = (torch.rand(of_scale, generator=generator) + 0.5).to(dtype)
        found = Fp8Tensors(Table({"x.weight": q, end: scale}), Fp8((4, 3)))
        assert found.names() == {"x.weight"}
        assert torch.equal(found.get("x.weight"), q.float() * spread(scale.float())), (shape, of_scale)


def test_powers_of_two() -> None:
    """Oracle: by hand: DeepSeek's scales of eight bits are exponents."""
    q = torch.tensor([[1.5, -2.0]]).to(torch.float8_e4m3fn)
    scale = torch.tensor([[0.25]]).to(torch.float8_e8m0fnu)
    found = Fp8Tensors(Table({"x.weight": q, "x.weight_scale_inv": scale}), Fp8((128, 128)))
    assert found.get("x.weight").tolist() == [[0.375, -0.5]]


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({}, r"x\.weight is stored in fp8, but has no scale; x\.weight_scale or x\.weight_scale_inv"),
        ({"y.weight_scale": torch.ones(())}, r"x\.weight is stored in fp8, but has no scale"),
        ({"x.weight_scale": torch.ones(7)}, r"scale of tensor x\.weight has the shape \[7\], .* need \[2, 3\]"),
        ({"x.weight_scale": torch.ones(3, 2)}, r"has the shape \[3, 2\]"),
        ({"x.weight_scale": torch.ones(6, 2)}, r"has the shape \[6, 2\]"),
        ({"x.weight_scale": torch.ones(0)}, r"has the shape \[0\]"),
        ({"x.weight_scale": torch.ones(6, dtype=torch.int32)}, r"x\.weight_scale is a scale stored as torch\.int32"),
    ],
)
def test_scales_that_do_not_fit(tensors: Tensors, sentence: str) -> None:
    """Oracle: the sentence, with the weight's name."""
    q = torch.ones(6, 8).to(torch.float8_e4m3fn)
    with pytest.raises(CheckpointError, match=sentence):
        Fp8Tensors(Table({"x.weight": q, **tensors}), Fp8((4, 3))).get("x.weight")
    with pytest.raises(CheckpointError, match=r"x\.weight.*(no scale|no size of blocks|stored as)"):
        Fp8Tensors(Table({"x.weight": q, **tensors}), None).get("x.weight")


def test_fp8_without_scales(tmp_path: Path) -> None:
    """Oracle: the sentence at loading; and a scale whose weight is plain, which belongs to nothing."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    name = "model.layers.0.mlp.up_proj.weight"
    whole = (directory / "model.safetensors").read_bytes()
    edit_tensors(directory, lambda tensors: tensors.update({name: tensors[name].to(torch.float8_e4m3fn)}))
    for quantize in (None, "keep", "fp8", "int8"):
        with pytest.raises((CheckpointError, InputError), match=r"no scale|no quantized weights"):
            braidlm.load(directory, quantize=quantize)
    (directory / "model.safetensors").write_bytes(whole)
    edit_tensors(directory, lambda tensors: tensors.update({f"{name}_scale": torch.ones(())}))
    with pytest.raises(CheckpointError, match=f"{name}_scale belongs to no parameter"):
        braidlm.load(directory)


def test_scales_of_activations(tmp_path: Path) -> None:
    """Oracle: the weights without them; one warning that counts them by kind."""
    scaled, plain = pair(tmp_path, "llama", "tensor")

    def more(tensors: Tensors) -> None:
        for i in range(2):
            layer = f"model.layers.{i}"
            tensors[f"{layer}.mlp.up_proj.input_scale"] = torch.ones(())
            tensors[f"{layer}.self_attn.q_proj.activation_scale"] = torch.ones(1)
            tensors[f"{layer}.self_attn.k_scale"] = torch.ones(())
            tensors[f"{layer}.self_attn.v_proj.output_scale"] = torch.ones(())

    edit_tensors(scaled, more)
    with pytest.warns(LoadingWarning, match=r"scales of activations.*input_scale \(2\).*k_scale \(2\)"):
        digest = digest_of(scaled, dtype="float32")
    assert digest == digest_of(plain, dtype="float32")
    edit_tensors(plain, lambda tensors: tensors.update({"model.layers.0.self_attn.k_scale": torch.ones(())}))
    with pytest.raises(CheckpointError, match="k_scale belongs to no parameter"):
        braidlm.load(plain)


def test_fp8_in_a_model_that_sees(tmp_path: Path) -> None:
    """Oracle: the plain weights: scales are found under the names that their weights have in the file."""
    scaled, plain = pair(tmp_path, "llama", "channel")
    text = json.loads((scaled / "config.json").read_text())
    quantized = text.pop("quantization_config")
    whole = {"model_type": "mistral3", "text_config": text, "quantization_config": quantized}
    (scaled / "config.json").write_text(json.dumps(whole))
    tower = {"vision_tower.a.weight": torch.ones(2, 2).to(torch.float8_e4m3fn)}  # without a scale: not looked at
    edit_tensors(scaled, lambda tensors: {f"language_model.{k}": v for k, v in tensors.items()} | tower)
    expected = braidlm.load(plain, dtype="float32").network
    with pytest.warns(LoadingWarning, match="vision_tower"):
        kept = braidlm.load(scaled, dtype="float32", quantize="keep").network
    for name, weight in quantized_weights(kept).items():
        assert torch.equal(weight.dequantize(torch.float32), expected.get_parameter(name))


def compressed(**changes: Any) -> dict[str, Any]:
    """A config of compressed-tensors with changes to the scheme of its weights."""
    weights = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True} | changes
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"g": {"weights": weights}},
    }


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (None, None),
        ({}, None),
        ({"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]}, Fp8()),
        ({"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": None}, Fp8((128, 128))),
        ({"quant_method": "fp8", "weight_block_size": None, "kv_cache_scheme": "static"}, Fp8()),
        ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, Fp8()),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": None}, Fp8()),
        (compressed(), Fp8()),
        (compressed(strategy="channel"), Fp8()),
        (compressed(strategy=None), Fp8()),
        (compressed(strategy="block", block_structure=[64, 128]), Fp8((64, 128))),
        (compressed(strategy="block", block_structure="128x128"), Fp8((128, 128))),
        (compressed(strategy="group", group_size=128), Fp8((1, 128))),
        (compressed() | {"format": "naive-quantized"}, Fp8()),
        (compressed() | {"config_groups": {"FP8_BLOCK": ["Linear"]}}, Fp8((128, 128))),
        (compressed() | {"config_groups": {"FP8_DYNAMIC": ["Linear"]}}, Fp8()),
        (compressed() | {"config_groups": {}, "kv_cache_scheme": {"num_bits": 8}}, None),
        (compressed() | {"config_groups": {"g": {"weights": None, "targets": ["Attention"]}}}, None),
        (compressed() | {"sparsity_config": {"format": "dense"}, "transform_config": {}}, Fp8()),
    ],
)
def test_configs_of_fp8(about: Any, expected: Fp8 | None) -> None:
    """Oracle: by hand, from the formats' documentation."""
    assert read_fp8(about, "config.json") == expected


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, "quantized by 'gptq'"),
        ({"quant_method": "awq"}, "quantized by 'awq'"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quantized by 'bitsandbytes'"),
        ({"quant_method": "mxfp4"}, "quantized by 'mxfp4'"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "quantized by 'NVFP4'"),
        ({"load_in_8bit": True}, "quantized by None"),
        ([1], r"quantization_config \[1\], but it must be an object"),
        (compressed() | {"format": "pack-quantized"}, "compressed as 'pack-quantized'"),
        (compressed() | {"format": "int-quantized"}, "compressed as 'int-quantized'"),
        (compressed() | {"format": ["x"]}, "compressed as"),
        (compressed(num_bits=4, type="int"), "4 bits of the type 'int'"),
        (compressed(symmetric=False), "not symmetric"),
        (compressed(strategy="tensor_group"), "by 'tensor_group'"),
        (compressed(strategy=["x"]), "by"),
        (compressed() | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse as 'sparse-24-bitmask'"),
        (compressed() | {"transform_config": {"config_groups": {"R1": {}}}}, "rotated"),
        (compressed() | {"config_groups": {"W4A16": ["Linear"]}}, "scheme 'W4A16'"),
        (compressed() | {"config_groups": [1]}, "config_groups"),
        (compressed(strategy="block", block_structure=[0, 128]), r"blocks of \[0, 128\]"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, r"blocks of \[128\]"),
        ({"quant_method": "fp8", "weight_block_size": 128}, "blocks of 128"),
        ({"quant_method": "x" * 100_000}, "quantized by"),
    ],
)
def test_other_quantizations(about: Any, words: str, tmp_path: Path) -> None:
    """Oracle: the sentence, which names the method and stays short."""
    directory = tiny_checkpoint(tmp_path / "model", "llama")
    edit_config(directory, quantization_config=about)
    for read in (braidlm.load, loading.read_spec):
        with pytest.raises(CheckpointError, match=words) as caught:
            read(directory)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 700


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of a real model that is large enough for blocks: SmolLM2's embedding and first four layers, bfloat16."""
    directory = tmp_path_factory.mktemp("smollm2") / "original"
    model = braidlm.load("smollm2-135m", dtype="bfloat16")
    model.network.blocks = model.network.blocks[:4]
    model.network.spec = replace(model.spec, blocks=model.spec.blocks[:4])
    model.save(directory)
    return directory


def text() -> str:
    """The beginning of the King James Bible."""
    place = importlib.util.find_spec("bible").submodule_search_locations[0]
    with (Path(place) / "data" / "kjv.jsonl").open() as file:
        return " ".join(json.loads(next(file))["text"] for _ in range(30))


@pytest.mark.parametrize(("layout", "kept"), [("tensor", "keep"), ("channel", "keep"), ("block", "fp8")])
def test_divergence(layout: str, kept: str, original: Path, tmp_path: Path) -> None:
    """Oracle: the unscaled model in float32: its next-token distributions; weights dequantized, and kept in fp8."""
    expected = braidlm.load(original, dtype="float32")
    ids = torch.tensor([expected.encode(text())[:96]])
    a = expected.forward(ids).log_softmax(-1)
    scaled = Path(shutil.copytree(original, tmp_path / "fp8"))
    to_fp8(scaled, layout)
    for quantize in (None, kept):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LoadingWarning)  # of blocks, see above
            found = braidlm.load(scaled, quantize=quantize)
        b = found.forward(ids).float().log_softmax(-1)
        divergence = (a.exp() * (a - b)).sum(-1).mean().item()
        assert 0 < divergence < DIVERGENCE_FP8_CHECKPOINT, (quantize, divergence)


def test_transformers_own_reading(tmp_path: Path) -> None:
    """Oracle: transformers' dequantization of fine-grained fp8 on the CPU, bit for bit in bfloat16."""
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=256, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(tmp_path / "model")
    to_fp8(tmp_path / "model", "block")
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    actual = braidlm.load(tmp_path / "model", dtype="bfloat16").network
    held = {name: tensor for name, tensor in reference.state_dict().items() if "proj" in name}
    assert len(held) == 14
    for name, tensor in held.items():
        place = name.replace("model.layers", "blocks").replace("self_attn", "mixer").replace("mlp", "ffn")
        assert torch.equal(actual.get_parameter(place), tensor), name


def test_quantizers_of_these_tests() -> None:
    """Oracle: the weight itself, within a sixteenth of each number (three bits), where nothing is subnormal."""
    weight = torch.rand(200, 300, generator=torch.Generator().manual_seed(0)) + 0.5
    for q, scale in (by_tensor(weight), by_row(weight)):
        assert ((q.float() * scale.float() - weight).abs() <= weight / 16 + 1e-3).all()
    q, scale = by_block(weight)
    assert scale.shape == (2, 3)
    assert ((plain_blocks(q, scale) - weight).abs() <= weight / 16).all()
