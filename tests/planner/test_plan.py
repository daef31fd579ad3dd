"""Plans of models: weights, FLOPs, training, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import braidlm
from braidlm import families
from braidlm.api import hub
from braidlm.api.loading import read_described
from braidlm.checkpoints.saving import OWN_FILE
from braidlm.errors import InputError
from braidlm.families.presets import PRESETS
from braidlm.model import footprint
from braidlm.model.initialisation import randomise
from braidlm.ops import Segments
from braidlm.planner import calibration, measurement
from braidlm.planner.check import GENERATED, Checked
from braidlm.planner.floor import Rates, prefill_floor
from braidlm.planner.operations import token_flops
from braidlm.planner.training_memory import training_memory
from tests.cli.commands import braid, data, entry
from tests.families.tiny import TINY, tiny
from tests.planner.measured import MEASURED

RATES = Rates(bandwidth=1.0, dtype="bfloat16", products=1.0, float32=1.0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("family", TINY)
def test_weights_of_every_family(family: str, tmp_path: Path) -> None:
    """Oracle: the model itself, built and saved; and the same plan from its config file alone."""
    model = braidlm.build(tiny(family, 0), dtype="bfloat16")
    model.save(tmp_path / family)
    found = data("plan", str(tmp_path / family), "--context", "64")
    parameters = list(model.network.parameters())
    assert found["parameters"] == sum(parameter.numel() for parameter in parameters)
    assert found["weight_bytes"] == sum(parameter.nbytes for parameter in parameters)
    assert found["state"]["total"] == model.spec.state_bytes(64, dtype="bfloat16")
    for file in (tmp_path / family).iterdir():
        if file.suffix != ".json":
            file.unlink()
    assert data("plan", str(tmp_path / family), "--context", "64") == found


@pytest.mark.parametrize("family", TINY)
def test_published_config_alone(family: str, tmp_path: Path) -> None:
    """Oracle: the spec that the config was written from, by its directory and by its own path; there are no weights."""
    spec = tiny(family, 0)
    (tmp_path / "config.json").write_text(json.dumps(families.for_spec(spec)[1]))
    found = data("plan", str(tmp_path), "--context", "64")
    assert found["parameters"] == footprint.size(spec).total
    assert found["state"]["total"] == spec.state_bytes(64, dtype="bfloat16")
    named = data("plan", str(tmp_path / "config.json"), "--context", "64")
    assert named | {"model": ""} == found | {"model": ""}


@pytest.mark.parametrize("weight_format", ["int8", "int4", "fp8"])
def test_quantized_weights(weight_format: str, tmp_path: Path) -> None:
    """Oracle: the bytes of a model that is quantized while it is loaded, and what `braid info` says."""
    braidlm.build(tiny("bamba", 0)).save(tmp_path / "model")
    loaded = braidlm.load(tmp_path / "model", "bfloat16", quantize=weight_format).network
    held = sum(tensor.nbytes for tensor in (*loaded.parameters(), *loaded.buffers()))
    options = (str(tmp_path / "model"), "--quantize", weight_format)
    found, info = data("plan", *options), data("info", *options)
    assert found["weight_bytes"] == info["weight_bytes"] == held
    assert found["quantized"] == info["quantized"]


@pytest.mark.parametrize("preset", ["mamba-130m", "hymba-1.5b", "bamba-9b", "mamba2-1.3b"])
def test_flops(preset: str) -> None:
    """Oracle: the floor of a whole prompt at one FLOP a second, and how it grows by a token that runs the head."""
    spec = PRESETS[preset]().spec
    size = footprint.size(spec)
    for length in (1, 1000):
        found = token_flops(spec, size, length)
        whole, longer = (prefill_floor(spec, n, RATES) for n in (length, length + 1))
        assert found.prefill * length == pytest.approx(whole)
        assert found.decode == pytest.approx(longer - whole + 2 * size.embedding)


@pytest.mark.parametrize("preset", ["mamba-130m", "mamba2-130m", "smollm2-135m"])
def test_activations_of_training(preset: str) -> None:
    """Oracle: the bytes that autograd keeps of 64 more tokens, which the rule meets within a quarter."""
    whole = PRESETS[preset]().spec
    spec = replace(whole, blocks=whole.blocks[:1], vocab=1)
    model = footprint.skeleton(spec)
    randomise(model, 0, torch.float32, "cpu")
    model.compute_dtype = torch.bfloat16
    model.train().requires_grad_()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def saved_bytes(tokens: int) -> int:
        kept: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            ids = torch.zeros(tokens, dtype=torch.int64)
            output = model.hidden(ids, Segments((tokens,)), model.training_state(1))
        del output
        return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)

    rule = [training_memory(spec, tokens, torch.bfloat16).activations for tokens in (64, 128)]
    # The stream behind the last block and a chunk's logits are no part of what the blocks keep.
    beside = 64 * (spec.width * 4 + 2 * 4)
    assert rule[1] - rule[0] - beside == pytest.approx(saved_bytes(128) - saved_bytes(64), rel=0.25)


def test_weights_and_moments_of_training() -> None:
    """Oracle: float32 weights, gradients and two moments, a cast in two bytes; blocks that run twice keep less."""
    spec = PRESETS["mamba-130m"]().spec
    count, found = footprint.size(spec).total, training_memory(spec, 2048, torch.bfloat16)
    assert (found.weights, found.gradients, found.moments, found.casts) == (4 * count, 4 * count, 8 * count, 2 * count)
    assert found.checkpointed_total < found.total
    assert training_memory(spec, 2048, torch.float32).casts == 0


def test_columns_side_by_side() -> None:
    """Oracle: a column for each model with the values of its own table, in the same rows."""
    both = braid("plan", "hymba-1.5b", "--compare", "mamba2-1.3b")
    alone = braid("plan", "hymba-1.5b")
    assert both.exit_code == alone.exit_code == 0, (both.exception, alone.exception)
    rows = {line[:36].strip(): line for line in both.stdout.splitlines()}
    for line in alone.stdout.splitlines():
        name, value = (part.strip() for part in (line[:38], line[38:]))
        assert any(name in row and value in row for row in rows.values()), line
    compared = data("plan", "hymba-1.5b", "--compare", "mamba2-1.3b")
    assert [other["model"] for other in compared["compared"]] == ["mamba2-1.3b"]


def test_forecast_of_a_measured_machine() -> None:
    """Oracle: the measurement's process beside weights and states; sessions that fit by those bytes alone."""
    unknown = data("plan", "mamba-130m")
    assert unknown["speed"] is unknown["resident_bytes"] is unknown["sessions_that_fit"] is None
    calibration.save(MEASURED)
    found = data("plan", "mamba-130m", "--sessions", "3", "--memory", "1GiB")
    held = found["engine"]["bytes"]
    assert found["resident_bytes"] == MEASURED.process_bytes + found["weight_bytes"] + held
    assert found["speed"]["tokens_per_second"] > 0
    fit = found["sessions_that_fit"]
    for sessions, fits in ((fit, True), (fit + 1, False)):
        more = data("plan", "mamba-130m", "--sessions", str(sessions))["resident_bytes"]
        assert (more <= 1 << 30) == fits


def test_a_hub_id_needs_its_config_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the files that are asked of the hub, here a directory of this machine, and the plan of that directory.

    Its weights are quantized and its usable length was measured, which its config files say too.
    """
    place = quantized(tmp_path)
    asked: list[str] = []

    def download(hub_id: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.extend([hub_id, *allow_patterns])
        return str(place)

    monkeypatch.setattr(hub, "snapshot_download", download)
    found = data("plan", "someone/something", "--context", "64")
    assert asked == ["someone/something", "config.json", OWN_FILE]
    assert found | {"model": ""} == data("plan", str(place), "--context", "64") | {"model": ""}
    assert found["quantized"]
    info = data("info", "someone/something")
    assert info | {"model": ""} == data("info", str(place)) | {"model": ""}
    assert info["usable_length"] == 80


def test_a_config_stands_for_its_directory(tmp_path: Path) -> None:
    """Oracle: what is read of the directory itself, with a description of either name, and loaded from it."""
    place = quantized(tmp_path)
    braidlm.build(tiny("llama", 0)).save(tmp_path / "published", "hf")
    for file in (place / OWN_FILE, tmp_path / "published" / "config.json"):
        assert read_described(file) == read_described(file.parent)
    assert read_described(place / OWN_FILE).kinds
    assert read_described(place / OWN_FILE).usable_length == 80
    weights = [braidlm.load(path).network.weights.fingerprint() for path in (place, place / OWN_FILE)]
    assert weights[0] == weights[1]
    other = (place / OWN_FILE).rename(tmp_path / "other.json")
    with pytest.raises(InputError, match=r"other\.json is no model; give a directory"):
        braidlm.load(other)


def quantized(tmp_path: Path) -> Path:
    """A directory of a model in int4 whose usable length is 80."""
    model = braidlm.build(tiny("mamba2", 0), dtype="bfloat16")
    model.quantize("int4")
    model.save(tmp_path / "quantized", "braidlm")
    file = tmp_path / "quantized" / OWN_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"usable_length": 80}))
    return file.parent


def test_a_damaged_calibration_is_no_bar(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the plan without a calibration, and the sentence; measuring anew mends it."""
    unknown = data("plan", "mamba-130m")
    calibration.save(MEASURED).write_text("no JSON")
    ended = entry(capfd, "plan", "mamba-130m", "--json")
    assert json.loads(ended.stdout) == unknown
    assert "is damaged; run braid plan --calibrate" in " ".join(ended.stderr.split())
    monkeypatch.setattr(measurement, "measure", lambda: MEASURED)
    assert data("plan", "mamba-130m", "--calibrate")["speed"] is not None


def test_nothing_is_measured_in_vain(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the sentence, where the cache's directory is a file, before a measurement that would raise."""
    monkeypatch.setattr(measurement, "measure", lambda: pytest.fail("measured"))
    (tmp_path / "cache").touch()
    ended = entry(capfd, "plan", "--calibrate")
    assert ended.returncode == 2
    assert "cannot write" in ended.stderr


def test_calibrate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what was measured, here without measuring, and the file that keeps it."""
    monkeypatch.setattr(measurement, "measure", lambda: MEASURED)
    assert braid("plan", "--calibrate").exit_code == 0
    assert calibration.saved() == MEASURED


@pytest.mark.parametrize("family", ["hymba", "mamba2"])
def test_check(family: str, tmp_path: Path) -> None:
    """Oracle: the state bytes of sequences that the model has really run, as forecast; times are times."""
    braidlm.build(tiny(family, 0)).save(tmp_path)
    calibration.save(MEASURED)
    found = data("plan", str(tmp_path), "--context", "150", "--sessions", "3", "--kv-dtype", "int8", "--check")
    checked = {each["name"]: each for each in found["checked"]}
    state = checked["state, bytes"]
    assert state["forecast"] == state["measured"] > 0
    assert state["error"] == 0
    assert all(each["measured"] > 0 for each in checked.values())


def test_check_within_the_declared_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a directory named like a preset is itself checked, whose states are those of its own few layers.

    Without a context the generated tokens have room within its declared length of 100.
    """
    spec = replace(tiny("llama", 0), max_positions=100)
    braidlm.build(spec).save(tmp_path / "smollm2-135m", "braidlm")
    calibration.save(MEASURED)
    monkeypatch.chdir(tmp_path)
    checked = {each["name"]: each for each in data("plan", "smollm2-135m", "--check")["checked"]}
    assert checked["state, bytes"]["measured"] == spec.state_bytes(100 - GENERATED, dtype="bfloat16")


def test_what_a_system_does_not_tell() -> None:
    """Oracle: the error of a forecast of 3 of what was 2, and none of what was not measured."""
    assert Checked("state, bytes", 3, 2).error == 0.5
    assert Checked("resident memory, bytes", 3, 0).error is None


def test_what_is_refused(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the sentences."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for arguments, sentence in (
        ((), "there is no model to plan"),
        (("hymba-1.5b", "--context", "9000"), "the context of 9000 tokens is beyond the declared length of hymba-1.5b"),
        (("mamba-130m", "--check"), "measure this machine first"),
        (("mamba-130m", "--check", "--compare", "mamba-370m"), "--check runs one model and nothing beside"),
        (("hymba-1.5b", "--memory", "much"), "'much' is no amount of memory"),
        (("mamba-130m", "--quantize", "int3"), "quantize is 'int3'"),
        (("mamba-130m", "--compare", "no such thing"), "neither a file or directory"),
        (("no such thing",), "neither a file or directory"),
        (("someone/something",), "someone/something is not in the local cache"),
        (("hymba-1.5b", "--dtype", "float8"), "dtype is 'float8'"),
        (("hymba-1.5b", "--kv-dtype", "int3"), "kv_dtype is 'int3'"),
        (("hymba-1.5b", "--sessions", "0"), "sessions is 0, but must be at least 1"),
        (("hymba-1.5b", "--context", "-3"), "context is -3, but must be at least 1"),
        (("hymba-1.5b", "--memory", "0"), "memory is 0, but must be at least 1"),
    ):
        ended = entry(capfd, "plan", *arguments)
        assert ended.returncode == 2
        assert sentence in ended.stderr
        assert ended.stderr.count("\n") == 1
