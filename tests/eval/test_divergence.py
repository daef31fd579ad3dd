"""Divergence from a reference: by the definition, on windows of a text, and from `braid quantize --report`."""

import json
import math
from pathlib import Path

import pytest
import torch

import braidlm
from braidlm.api.loading import read_described, read_tokenizer
from braidlm.api.self_calibration import sample_calibration_text
from braidlm.checkpoints import embedded
from braidlm.checkpoints.saving import Origin
from braidlm.errors import InputError
from braidlm.eval.divergence import divergence
from braidlm.eval.positions import BORDERS
from braidlm.eval.sequences import windows
from braidlm.model import footprint
from braidlm.ops.linear.quantized import WEIGHT_FORMATS
from braidlm.quant.policy import policy_of, quantize, quantized_weights
from tests.checkpoints.gguf_files import refused
from tests.cli.commands import braid, data
from tests.quant.small import model_of
from tests.tolerances import RELATIVE_LOGITS, RELATIVE_PERPLEXITY


@pytest.mark.parametrize("family", ["mamba2", "hymba"])
def test_by_definition(family: str) -> None:
    """Oracle: the definition, from logits of whole windows in one pass."""
    model, reference = model_of(family), model_of(family)
    quantize(model.network, "int4")
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(model.spec.vocab, (length,), generator=generator) for length in (300, 150)]
    told: list[tuple[int, int]] = []
    found = divergence(model, reference, rows, lambda *counts: told.append(counts))
    actual, wanted = (
        [m.forward(row[None])[0].double().log_softmax(-1)[:-1] for row in rows] for m in (model, reference)
    )
    likelihoods = [[-p.gather(-1, row[1:, None])[:, 0] for p, row in zip(logs, rows)] for logs in (actual, wanted)]
    divergences = [(b.exp() * (b - a)).sum(-1) for a, b in zip(actual, wanted)]
    same = [(a.argmax(-1) == b.argmax(-1)).double() for a, b in zip(actual, wanted)]
    assert told == [(1, 2), (2, 2)]
    assert [(bucket.first, bucket.last) for bucket in found.buckets] == [(0, 31), (32, 127), (128, 298)]
    for bucket in (found.whole, *found.buckets):
        part = slice(bucket.first, bucket.last + 1)
        assert bucket.tokens == sum(len(s[part]) for s in same)
        for value, expected in (
            (math.log(bucket.perplexity), likelihoods[0]),
            (math.log(bucket.reference_perplexity), likelihoods[1]),
            (bucket.divergence, divergences),
        ):
            mean = float(torch.cat([e[part] for e in expected]).mean())
            assert value == pytest.approx(mean, rel=RELATIVE_LOGITS[torch.float32], abs=RELATIVE_LOGITS[torch.float32])
        assert bucket.agreement == pytest.approx(float(torch.cat([s[part] for s in same]).mean()), abs=0.01)


def test_a_model_is_faithful_to_itself() -> None:
    """Oracle: zero divergence, the same perplexity, every first choice."""
    model = model_of("bamba")
    found = divergence(model, model, [torch.arange(60) % model.spec.vocab]).whole
    assert found.perplexity == found.reference_perplexity
    assert (found.divergence, found.agreement, found.tokens) == (0.0, 1.0, 59)


def test_windows() -> None:
    """Oracle: by hand."""
    assert [row.tolist() for row in windows(range(10), None, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [row.tolist() for row in windows(range(10), 3, 4)] == [[0, 1, 2]]
    assert [len(row) for row in windows(range(5000), 4500, 1024)] == [1024] * 4
    refused(lambda: windows([5], None, 4), InputError, "1 tokens", "at least 2")
    assert list(BORDERS) == sorted(BORDERS)


TEXT = "In the beginning God created the heaven and the earth. And the earth was without form, and void. " * 6


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with the embedded model's tokenizer, so that it can read a text."""
    place, tokenizer = tmp_path_factory.mktemp("small"), read_tokenizer(embedded.NAME)
    spec = braidlm.ModelSpec.from_json(model_of("bamba").spec.to_json() | {"vocab": tokenizer.vocab_size})
    model = braidlm.build(spec, seed=3, dtype="bfloat16")
    model.tokenizer = tokenizer
    model.save(place / "model")
    (place / "text").write_text(TEXT)
    return place


@pytest.mark.parametrize(("bits", "weight_format"), [("4", "int4"), ("8", "int8"), ("fp8", "fp8")])
def test_the_command(bits: str, weight_format: str, small: Path, tmp_path: Path) -> None:
    """Oracle: the same model quantized while it is loaded, and its fidelity."""
    asked = ("quantize", str(small / "model"), str(tmp_path / "out"), "--bits", bits, "--report", str(small / "text"))
    found = data(*asked, "--tokens", "100")
    expected = braidlm.load(small / "model", quantize=weight_format)
    again = braidlm.load(tmp_path / "out")
    assert again.network.weights.fingerprint() == expected.network.weights.fingerprint()
    assert found["format"] == weight_format
    assert found["weight_bytes"] == sum(weight.nbytes for _, weight in again.network.named_weights())
    original = braidlm.load(small / "model")
    rows = windows(original.encode(TEXT), 100, 1024)
    fidelity = divergence(again, original, rows)
    assert found["report"]["whole"]["tokens"] == 99
    assert found["report"]["whole"]["perplexity"] == pytest.approx(fidelity.whole.perplexity, rel=RELATIVE_PERPLEXITY)
    assert found["report"]["whole"]["divergence"] == pytest.approx(fidelity.whole.divergence, rel=RELATIVE_PERPLEXITY)
    assert len(found["report"]["buckets"]) == len(fidelity.buckets)
    info = data("info", str(tmp_path / "out"))
    assert info["weight_bytes"] == found["weight_bytes"]
    assert info == data("info", str(small / "model"), "--quantize", weight_format) | {"model": str(tmp_path / "out")}
    assert weight_format in braid("info", str(tmp_path / "out")).stdout
    kinds = {name: weight.kind for name, weight in quantized_weights(again.network).items()}
    assert kinds == read_described(tmp_path / "out").kinds == policy_of(footprint.skeleton(again.spec), weight_format)


def test_calibration(small: Path, tmp_path: Path) -> None:
    """Oracle: rounding to nearest, from which it differs, and the table's words."""
    asked = ("quantize", str(small / "model"), str(tmp_path / "out"), "--calibration", str(small / "text"))
    result = braid(*asked, "--report", str(small / "text"), "--tokens", "80")
    assert result.exit_code == 0, result.output
    for word in ("int4", "positions", "0-31", "32-78", "0-78", "divergence"):
        assert word in result.stdout
    nearest = braidlm.load(small / "model", quantize="int4").network
    found = braidlm.load(tmp_path / "out").network
    assert quantized_weights(found).keys() == quantized_weights(nearest).keys()
    assert found.weights.fingerprint() != nearest.weights.fingerprint()


def test_its_own_text(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: generation of each row alone with its seed; the weights that such rows give."""
    model = braidlm.load(small / "model")
    told: list[tuple[int, int]] = []
    rows = sample_calibration_text(model, rows=3, length=9, seed=4, progress=lambda *counts: told.append(counts))
    assert [len(row) for row in rows] == [9] * 3
    assert told == [(done, 8) for done in range(1, 9)]
    model.origin = Origin()
    for number, row in enumerate(rows):
        options = {"max_tokens": 8, "temperature": 1.0, "seed": 4 + number}
        assert [token.id for token in model.stream(row[:1].tolist(), **options)] == row[1:].tolist()
    monkeypatch.setattr(
        "braidlm.api.self_calibration.sample_calibration_text",
        lambda language, progress: sample_calibration_text(language, 2, 20),
    )
    data("quantize", str(small / "model"), str(tmp_path / "out"), "--calibration", "self")
    expected = braidlm.load(small / "model")
    expected.quantize("int4", calibration=sample_calibration_text(expected, 2, 20))
    assert braidlm.load(tmp_path / "out").network.weights.fingerprint() == expected.network.weights.fingerprint()


def test_quantize_on_other_commands(small: Path) -> None:
    """Oracle: the model quantized in Python."""
    model = braidlm.load(small / "model", quantize="int8")
    found = data("generate", str(small / "model"), "In the", "--quantize", "int8", "--max-tokens", "5")
    assert found["text"] == model.generate("In the", max_tokens=5)
    assert data("verify", str(small / "model"), "--quantize", "int4", "--length", "20")["passed"]


def test_refusals(small: Path, tmp_path: Path) -> None:
    """Oracle: the sentences, before any work is done."""
    model, out, text = str(small / "model"), str(tmp_path / "out"), str(small / "text")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("")
    for arguments, words in (
        ((model, out, "--bits", "fp8", "--calibration", text), ("--calibration", "4 and 8 bits")),
        ((model, out, "--report", str(tmp_path / "none")), ("cannot read", "none")),
        ((model, out, "--report", str(tmp_path / "binary")), ("UTF-8", "byte 0")),
        ((model, str(full)), ("exists already",)),
    ):
        result = braid("quantize", *arguments)
        assert isinstance(result.exception, InputError)
        assert all(word in str(result.exception) for word in words)
    assert braid("quantize", model, out, "--bits", "5").exit_code == 2
    assert not (tmp_path / "out").exists()
    assert json.loads((small / "model" / "config.json").read_text())
    assert set(WEIGHT_FORMATS) == {"int4", "int8", "fp8"}
