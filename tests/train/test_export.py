"""Checkpoints of runs that are made into models, adapters and initial states."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import braidlm
from braidlm.cli.main import app
from braidlm.errors import InputError
from tests.train.stopped import IDS, STEPS, stopped


def braid(*words: str) -> str:
    found = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_a_stopped_run_becomes_a_model(place: Path) -> None:
    """Oracle: the logits of the run's own model, bit for bit; an earlier step has others; the run stays as it was."""
    wanted = stopped(place, "run.dtype=float32")
    run = sorted((place / "out").rglob("*"))
    said = braid("train", str(place / "out"), "--export", str(place / "made"))
    assert "after step 4" in said and sorted((place / "out").rglob("*")) == run
    assert torch.equal(braidlm.load(place / "made").forward(IDS), wanted)
    assert "steps | 4, " in (place / "made" / "README.md").read_text()
    assert braid("generate", str(place / "made"), "The", "--max-tokens", "3")
    braid("train", str(place / "run.toml"), "--export", str(place / "early"), "--step", "2")
    assert not torch.equal(braidlm.load(place / "early").forward(IDS), wanted)


def test_a_finished_run_becomes_its_model(place: Path) -> None:
    """Oracle: the weights that the run itself has written, byte for byte, in bfloat16."""
    told = [word for change in STEPS for word in ("--set", change)]
    braid("train", str(place / "run.toml"), *told)
    braid("train", str(place / "out"), "--export", str(place / "made"))
    weights = [place / directory / "model.safetensors" for directory in ("made", "out/model")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("table", ["[adapter]\nrank = 2", "[initial_state]", "[adapter]\nrank = 2\n[initial_state]"])
def test_what_is_beside_a_frozen_model(table: str, place: Path) -> None:
    """Oracle: the logits of the run's own model, from the base with what was written; the card's command works."""
    stopped(place, "run.out=base", "run.dtype=float32")
    base = place / "base-model"
    braid("train", str(place / "run.toml"), "--set", "run.out=base", "--export", str(base))
    text = (place / "run.toml").read_text()
    (place / "run.toml").write_text(f'[model]\ncheckpoint = "base-model"\n{text[text.index("[data]") :]}{table}\n')
    wanted = stopped(place, "run.dtype=float32", "optimizer.lr=0.1")
    made = place / "made"
    braid("train", str(place / "out"), "--export", str(made))
    language = braidlm.load(base, dtype="float32")
    adapted, begun = "adapter" in table, "initial" in table
    options = []
    if adapted:
        language.load_adapter("it", made)
        options += ["--adapter", str(made)]
        assert f"braid generate {base} 'Once upon a time' --adapter ." in (made / "README.md").read_text()
    if begun:
        file = made / "initial.safetensors" if adapted else made
        language.load_initial_state("it", file)
        options += ["--state", str(file)]
    found = language.using("it" if adapted else None, "it" if begun else None).forward(IDS)
    assert not torch.equal(language.forward(IDS), wanted)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert braid("generate", str(base), "The", "--max-tokens", "3", *options)


def test_what_cannot_be_exported(place: Path) -> None:
    """Oracle: sentences; what lies there stays."""
    toml, made = str(place / "run.toml"), place / "made"
    with pytest.raises(InputError, match="holds no checkpoint; a run stores one when it is stopped"):
        braid("train", toml, "--export", str(made))
    with pytest.raises(InputError, match="holds no checkpoint of a run; name the TOML file"):
        braid("train", str(place), "--export", str(made))
    stopped(place)
    with pytest.raises(InputError, match=r"has no checkpoint of step 3; it has those of 2, 4"):
        braid("train", toml, "--export", str(made), "--step", "3")
    with pytest.raises(InputError, match=r"model\.spec\.vocab is 301, .* was begun with 300"):
        braid("train", toml, "--set", "model.spec.vocab=301", "--export", str(made))
    made.mkdir()
    (made / "mine").write_text("mine")
    with pytest.raises(InputError, match="exists already and is not empty"):
        braid("train", toml, "--export", str(made))
    assert (made / "mine").read_text() == "mine"
