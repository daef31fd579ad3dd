"""`braid info` of runs: what can be said without their weights."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from braidlm.cli.main import app
from braidlm.errors import InputError
from braidlm.model.footprint import skeleton
from braidlm.train import training_log
from braidlm.train.config import read_config
from tests.train.stopped import STEPS, stopped


def info(*words: str) -> str:
    found = CliRunner().invoke(app, ["info", *words], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_a_run_is_described(place: Path) -> None:
    """Oracle: the run's own log, the configuration and the checkpoints that are there, by hand."""
    toml = str(place / "run.toml")
    before = json.loads(info(toml, "--json"))
    assert (before["kind"], before["step"], before["steps"], before["loss"]) == ("configuration", 0, 30, None)
    assert before["commands"] == [f"braid train {toml}"]
    stopped(place, "run.evaluate=2")
    log = training_log.read_log(place / "out" / "log.jsonl")
    (loss,) = [line["loss"] for line in log if line["step"] == 4 and "loss" in line]
    (eval_loss,) = [line["eval_loss"] for line in log if line["step"] == 2 and "eval_loss" in line]
    out, last = place / "out", place / "out" / "checkpoints" / "step-00000004"
    found = json.loads(info(str(out), "--json"))
    assert (found["kind"], found["step"], found["steps"]) == ("run", 4, 6)
    assert (found["tokens"], found["planned_tokens"]) == (4 * 2 * 128, 6 * 2 * 128)
    assert (found["loss"], found["evaluations"]) == (loss, {"eval_loss": eval_loss})
    model = skeleton(read_config(place / "run.toml").model.spec)
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert found["checkpoints"] == [2, 4] and abs(found["written"] - time.time()) < 1000
    assert found["commands"] == [f"braid train {out}", f"braid train {out} --export DIRECTORY"]
    assert found["config"]["stages"] == [{"kind": "Stage", "steps": 6, "batch_size": 2, "seq_len": 128}]
    text = info(str(last))
    for said in ("4 of 6", f"{loss:.4f} at step 4", f"{eval_loss:.4f}", "1 Mamba2, 1 Hyena", str(place / "shards"),
                 f"braid train {out} --step 4 --export DIRECTORY"):  # fmt: skip
        assert said in text, text
    assert json.loads(info(toml, "--json"))["step"] == 4


def test_how_to_go_on_works(place: Path) -> None:
    """Oracle: the command, run: the run is whole, and says so with what to do next."""
    stopped(place)
    (command,) = json.loads(info(str(place / "out"), "--json"))["commands"][:1]
    CliRunner().invoke(app, command.split()[1:], catch_exceptions=False)
    found = json.loads(info(str(place / "out"), "--json"))
    assert (found["step"], found["steps"]) == (6, 6)
    assert found["results"] == [str(place / "out" / "model")]
    assert found["commands"][0] == f"braid train {place / 'out'} --extra-steps STEPS"
    assert read_config(place / "run.toml", STEPS).steps == 6


def test_a_log_without_a_checkpoint(tmp_path: Path) -> None:
    """Oracle: the sentence."""
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(InputError, match="holds the log of a run but no checkpoint; name the TOML file"):
        info(str(tmp_path))
