"""Quantized models: which weights, loading, saving, what is refused, how much memory it takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.errors import BraidError, CheckpointError, InputError
from braidlm.families.presets import preset
from braidlm.model import footprint
from braidlm.ops.linear.quantized import WEIGHT_FORMATS, QuantizedWeight
from braidlm.ops.linear.round_to_nearest import quantize_weight
from braidlm.quant.policy import policy_of, quantize, quantized_weights
from braidlm.system.dtypes import name_of
from tests.checkpoints.gguf_files import refused
from tests.families.tiny import TINY
from tests.quant.small import ids_for, model_of
from tests.tolerances import DIVERGENCE_QUANTIZED, RELATIVE_LOGITS

# Never quantized, by what they are: see the policy.
STEERING = ("conv", "norm", "router", "dt_proj", "x_proj", "a_log", "poles", "residues", "bias", "prefix")


def dequantized(model: LanguageModel) -> LanguageModel:
    """The same description with plain weights that have the values of the quantized ones."""
    plain = braidlm.build(model.spec, dtype=name_of(model.network.dtype))
    quantized = quantized_weights(model.network)
    with torch.no_grad():
        for name, parameter in plain.network.named_parameters():
            parameter.copy_(quantized[name].dequantize() if name in quantized else model.network.get_parameter(name))
    return plain


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
@pytest.mark.parametrize("family", TINY)
def test_logits(family: str, weight_format: str) -> None:
    """Oracle: a plain model of the dequantized weights, bit for bit."""
    model = model_of(family)
    quantize(model.network, weight_format)
    plain = dequantized(model)
    model.ops = plain.ops = "reference"
    ids = ids_for(model)
    assert quantized_weights(model.network)
    assert torch.equal(model.forward(ids), plain.forward(ids))


@pytest.mark.parametrize("family", TINY)
def test_policy(family: str) -> None:
    """Oracle: the rule in words: every matrix of whole groups but those that steer; tokens' rows in 8 bits."""
    model = model_of(family).network
    precise = set(model.fp32_parameter_names())
    for weight_format in WEIGHT_FORMATS:
        policy = policy_of(model, weight_format)
        for name, parameter in model.named_parameters():
            steers = any(word in name for word in STEERING) or name in precise
            whole = weight_format == "fp8" or parameter.shape[-1] % 32 == 0
            assert (name in policy) == (parameter.dim() > 1 and not steers and whole), name
        tokens = "int8" if weight_format == "int4" else weight_format
        for name, wanted in policy.items():
            assert wanted == (tokens if name in ("embed.weight", "head.weight") else weight_format)


def test_a_policy_of_ones_own() -> None:
    """Oracle: the table that was given."""
    model = model_of("granitemoehybrid").network
    names = [name for name in policy_of(model, "int8") if name.startswith("blocks.0.")]
    policy = {names[0]: "int8", names[1]: "fp8"}
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    quantize(model, "int4", policy)
    assert {name: weight.weight_format for name, weight in quantized_weights(model).items()} == policy
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_divergence(weight_format: str) -> None:
    """Oracle: the original model: next-token distributions differ by what the form's steps allow."""
    for family in ("mamba2", "hymba", "granitemoehybrid", "stripedhyena"):
        model, original = model_of(family), model_of(family)
        quantize(model.network, weight_format)
        a, b = (m.forward(ids_for(m)).log_softmax(-1) for m in (original, model))
        assert (a.exp() * (a - b)).sum(-1).mean() < DIVERGENCE_QUANTIZED[weight_format], family


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
@pytest.mark.parametrize("family", ["mamba", "hymba", "granitemoehybrid"])
def test_loading_quantizes(family: str, weight_format: str, tmp_path: Path) -> None:
    """Oracle: the loaded model, quantized afterwards."""
    model_of(family).save(tmp_path / "model")
    found = braidlm.load(tmp_path / "model", quantize=weight_format)
    expected = braidlm.load(tmp_path / "model", dtype="float32")
    assert found.network.dtype == torch.bfloat16
    quantize(expected.network, weight_format)
    quantized = quantized_weights(expected.network)
    assert quantized_weights(found.network).keys() == quantized.keys()
    for name, weight in quantized_weights(found.network).items():
        assert weight.kind == quantized[name].kind
        assert torch.equal(weight.dequantize(torch.float32), quantized[name].dequantize(torch.float32))
    wide = braidlm.load(tmp_path / "model", dtype="float32", quantize=weight_format)
    assert wide.network.dtype == torch.float32
    assert wide.network.weights.fingerprint() == expected.network.weights.fingerprint()


@pytest.mark.parametrize("weight_format", [*WEIGHT_FORMATS, "int4-low"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saving(weight_format: str, dtype: str, tmp_path: Path) -> None:
    """Oracle: the model that was saved: fingerprint, dtype, logits; files of the size of the weights."""
    model = model_of("bamba", dtype)
    quantize(model.network, weight_format.partition("-")[0])
    if weight_format == "int4-low":
        for weight in quantized_weights(model.network).values():
            if weight.weight_format == "int4":
                weight.register_buffer("low", -7.5 * weight.scale)
    model.save(tmp_path / "model", "braidlm")
    again = braidlm.load(tmp_path / "model")
    assert again.network.weights.fingerprint() == model.network.weights.fingerprint()
    assert again.network.dtype == model.network.dtype
    assert torch.equal(again.forward(ids_for(model)), model.forward(ids_for(model)))
    kinds = {name: weight.kind for name, weight in quantized_weights(model.network).items()}
    assert json.loads((tmp_path / "model" / "braidlm.json").read_text())["quantization"]["weights"] == kinds
    total = footprint.weight_bytes(model.spec, model.network.dtype, kinds)
    assert total == sum(weight.nbytes for _, weight in model.network.named_weights())
    header = 200 * len(list(model.network.named_weights()))
    assert total <= (tmp_path / "model" / "model.safetensors").stat().st_size <= total + header
    assert (
        braidlm.load(tmp_path / "model", quantize="keep").network.weights.fingerprint()
        == model.network.weights.fingerprint()
    )
    other = "float32" if dtype == "bfloat16" else "bfloat16"
    assert braidlm.load(tmp_path / "model", dtype=other).network.dtype == braidlm.api.loading.dtype_of(other)


def test_weights_and_versions() -> None:
    """Oracle: a changed bit of a quantized weight changes fingerprint and version; the same bits give the same ones."""
    one, two = model_of("llama"), model_of("llama")
    quantize(one.network, "int8")
    quantize(two.network, "int8")
    assert one.network.weights.fingerprint() == two.network.weights.fingerprint()
    version = one.network.weights.version()
    one.network.embed.weight.scale[0, 0] *= 2
    assert one.network.weights.version() != version
    assert one.network.weights.fingerprint() != two.network.weights.fingerprint()


def test_states_go_on(tmp_path: Path) -> None:
    """Oracle: the whole sequence in one pass, with learned prefix, shared keys and a saved state."""
    model = model_of("hymba")
    quantize(model.network, "int4")
    ids = ids_for(model)[:1]
    whole, state = model.forward(ids), model.new_state()
    first = model.forward(ids[:, :13], state=state)
    state.save(tmp_path / "state")
    again = model.load_state(tmp_path / "state")
    found = torch.cat([first, model.forward(ids[:, 13:], state=again)], 1)
    assert (found - whole).abs().max() / whole.abs().max() < RELATIVE_LOGITS[torch.float32]


def test_refusals(tmp_path: Path) -> None:
    """Oracle: the sentences."""
    model = model_of("llama")
    model.save(tmp_path / "plain")
    quantize(model.network, "int8")
    model.save(tmp_path / "quantized", "braidlm")
    name = next(iter(quantized_weights(model.network)))
    for act, kind, words in (
        (lambda: braidlm.load(tmp_path / "plain", quantize="int3"), InputError, ("int3", "int8, int4, fp8, keep")),
        (lambda: braidlm.load(tmp_path / "plain", quantize="keep"), InputError, ("no quantized weights",)),
        (lambda: braidlm.load(tmp_path / "quantized", quantize="int4"), InputError, ("quantized already",)),
        (lambda: model.save(tmp_path / "hf"), InputError, ("hf", "save it as braidlm")),
        (lambda: quantize(model.network, "int4"), InputError, ("quantized already",)),
        (lambda: quantize(model_of("llama").network, "int5"), InputError, ("int5", "int8, int4, fp8")),
        (lambda: quantize(model_of("llama").network, "int4", {"norm.weight": "int8"}), InputError, ("norm.weight",)),
        (lambda: quantize(model_of("llama").network, "int4", {name: "int2"}), InputError, (name, "int2")),
    ):
        refused(act, kind, *words)
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda about: about.update(weights=[]), ("quantization", "weights")),
        (lambda about: about.update(dtype="int8"), ("quantization", "dtype")),
        (lambda about: about["weights"].update({"no.weight": "int8"}), ("no.weight",)),
        (lambda about: about["weights"].update({"embed.weight": "int5"}), ("embed.weight", "int5")),
        (lambda about: about["weights"].update({"embed.weight": ["int8"]}), ("embed.weight",)),
        (lambda about: about["weights"].update({"embed.weight": "int4"}), ("embed.weight.data",)),
        (lambda about: about["weights"].update({"embed.weight": "fp8"}), ("embed.weight.data",)),
        (lambda about: about["weights"].pop("embed.weight"), ("embed.weight",)),
    ],
)
def test_damaged_descriptions(change: object, words: tuple[str, ...], tmp_path: Path) -> None:
    """Oracle: one sentence that names what is wrong."""
    model = model_of("llama")
    quantize(model.network, "int8")
    model.save(tmp_path / "model", "braidlm")
    file = tmp_path / "model" / "braidlm.json"
    about = json.loads(file.read_text())
    change(about["quantization"])
    file.write_text(json.dumps(about))
    with pytest.raises(BraidError) as caught:
        braidlm.load(tmp_path / "model")
    assert isinstance(caught.value, CheckpointError)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


MEASURE = """
import re, sys
from pathlib import Path
import braidlm.api.loading
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024
path, form = sys.argv[1:]
braidlm.load(path.replace("large", "small"), quantize=form)
before, seen = anonymous(), []
model = braidlm.load(path, quantize=form, progress=lambda *counts: seen.append(anonymous()))
print(sum(weight.nbytes for _, weight in model.network.named_weights()), max(seen) - before)
"""


@pytest.fixture(scope="module")
def granite_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the first block of a published shape, "small", and its first eight, "large"."""
    place, spec = tmp_path_factory.mktemp("granite"), preset("granite-4.0-h-350m").spec.to_json()
    for name, blocks in (("small", 1), ("large", 8)):
        part = braidlm.ModelSpec.from_json(spec | {"vocab": 2048, "blocks": spec["blocks"][:blocks]})
        braidlm.build(part, dtype="bfloat16").save(place / name, "braidlm")
    return place


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_memory_of_loading(weight_format: str, granite_parts: Path) -> None:
    """Oracle: the kernel's count of memory that belongs to no file, after each tensor: what is quantized, and one."""
    stored = (granite_parts / "large" / "model.safetensors").stat().st_size
    command = [sys.executable, "-c", MEASURE, str(granite_parts / "large"), weight_format]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    weights, grown = map(int, done.stdout.split())
    assert 1.8 * weights < stored > 120e6
    # What the allocator keeps of tensors that are gone differs from run to run.
    assert grown < weights + 40e6 < 0.9 * stored


def test_one_weight_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what is alive when a weight is quantized: all that came before is quantized already."""
    model = model_of("llama").network
    total = len(policy_of(model, "int8"))
    seen: list[int] = []

    def counted(weight: Tensor, weight_format: str, *, dtype: torch.dtype) -> QuantizedWeight:
        seen.append(len(quantized_weights(model)))
        return quantize_weight(weight, weight_format, dtype=dtype)

    monkeypatch.setattr("braidlm.quant.policy.quantize_weight", counted)
    told: list[tuple[int, int]] = []
    quantize(model, "int8", progress=lambda *counts: told.append(counts))
    assert seen == list(range(total))
    assert told == [(number, total) for number in range(1, total + 1)]
