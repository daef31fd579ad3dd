"""`braid bench`, from the command line to the sides' processes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import braidlm
from braidlm.bench import run
from braidlm.cli.main import app
from braidlm.errors import BraidError
from braidlm.planner import probe
from tests.families.tiny import tiny

SHORT = "--prompt 8 --decode 3 --context 4 --batch 1 --batch 2 --threads 1".split()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    for family in ("llama", "mamba", "stripedhyena"):
        braidlm.build(tiny(family, 0)).save(place / family)
    return place


@pytest.fixture(autouse=True)
def _no_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "matrix_rate", lambda dtype: 1e9)
    monkeypatch.setattr(probe, "busy_share", lambda: 0.0)


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments])


def data(*arguments: str) -> dict[str, Any]:
    result = bench(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def refused(*arguments: str) -> str:
    error = bench(*arguments).exception
    assert isinstance(error, BraidError)
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize(("family", "available", "rounds"), [("llama", None, 2), ("mamba", None, 1), ("llama", 0, 1)])
def test_against_transformers(
    family: str, available: int | None, rounds: int, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: what was asked for: three tasks, two sides, some rounds; all at once, or one after the other."""
    if available is not None:
        monkeypatch.setattr(run, "available_memory", lambda: available)
    found = data(str(models / family), *SHORT, "--rounds", str(rounds), "--against", "transformers")
    (comparison,) = found["comparisons"]
    assert comparison["absent"] == {}
    assert comparison["sides"].keys() == comparison["memory"].keys() == {"braidlm", "transformers"}
    assert [item["task"]["kind"] for item in comparison["measured"]] == ["prefill", "decode", "decode"]
    for item in comparison["measured"]:
        assert item["floor"] > 0
        counted = {side: len(seconds) for side, seconds in item["seconds"].items()}
        assert counted == {"braidlm": rounds, "transformers": rounds}
        assert all(second > 0 for seconds in item["seconds"].values() for second in seconds)


def test_models_that_a_baseline_has_not(models: Path) -> None:
    """Oracle: the refusal of transformers itself, which has no StripedHyena."""
    result = bench(str(models / "stripedhyena"), *SHORT, "--rounds", "1", "--against", "transformers")
    assert result.exit_code == 0, result.exception
    assert "transformers failed to load" in result.stdout.splitlines()[-1]


def test_a_cut_preset() -> None:
    """Oracle: the blocks that were asked for."""
    found = data("smollm2-135m", "--layers", "1", "--prompt", "4", "--decode", "0", "--rounds", "1", "--threads", "1")
    assert found["comparisons"][0]["model"] == "smollm2-135m, first 1 blocks"
    assert len(found["comparisons"][0]["measured"]) == 1


def test_list() -> None:
    """Oracle: the presets' counts, and the baselines that there are."""
    listed = data("--list")
    assert listed["presets"]["mamba-130m"] == pytest.approx(129.1e6, rel=1e-3)
    assert listed["baselines"] == ["transformers", "llama.cpp"]
    assert "mamba-130m: 129.14 M parameters, 24 Mamba" in bench("--list").stdout


def test_what_is_refused(models: Path) -> None:
    """Oracle: the sentences."""
    assert "there is no model to measure" in refused()
    assert "not against 'vllm'" in refused("mamba-130m", "--against", "vllm")
    assert "precision is 'fp3', but must be one of f32, bf16, int8, int4" in refused("mamba-130m", "--precision", "fp3")
    assert "layers is 99, but must be from 1 to 24" in refused("mamba-130m", "--layers", "99")
    assert "only a preset" in refused(str(models / "llama"), "--layers", "1")
    assert "neither a file or directory" in refused("no such thing")
