"""The scaling study of examples/scaling: its fit, its ladder, and a whole study that goes on where it was stopped."""

import argparse
import importlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "scaling"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("fit", "ladder", "picture", "study"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("study")


def test_fit(study: Any) -> None:
    """Oracle: the law that the losses were made with: constants within a quarter, the size exponent within 3%."""
    rng, law = random.Random(3), {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.4, "beta": 0.45}
    runs = [
        {"parameters": n, "tokens": d, "loss": (law["E"] + 400 / n**0.4 + 900 / d**0.45) * (1 + rng.gauss(0, 1e-3))}
        for n in (5e4, 2e5, 8e5, 3e6)
        for d in (3e5, 1e6, 3e6, 1e7)
    ]
    found = study.fitted(runs, samples=20)
    for name, value in law.items():
        assert found[name][0] == pytest.approx(value, rel=0.25), name
        assert found[name][1] <= found[name][2]
    assert found["size exponent"][0] == pytest.approx(0.45 / 0.85, rel=0.03)
    assert found["E"][1] <= 1.7 <= found["E"][2]


def test_ladder(study: Any) -> None:
    """Oracle: the same number of weights in all layouts, within 8%; states that differ, by the count of their kinds."""
    ladder = importlib.import_module("ladder")
    for width in ladder.WIDTHS[1:]:
        sizes = [ladder.parameters(ladder.spec(layout, width, 512)) for layout in ladder.LAYOUTS]
        assert max(sizes) / min(sizes) < 1.08, width
    states = {name: ladder.spec(name, 64, 512).state_bytes(8192, dtype="float32") for name in ladder.LAYOUTS}
    assert states["window"] < states["attention"] and states["mamba2"] < states["hybrid"] < states["attention"]


def test_study(study: Any, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the file of runs, one line each, the same after a second call, which makes none again."""
    asked = argparse.Namespace(
        shards=place / "shards", tokenizer=place / "tokenizer", out=place / "study", budgets=[1e9, 2e9],
        widths=[32], layouts=["attention", "hybrid"], context=512, samples=2, threads=1,
    )  # fmt: skip
    study.main(asked)
    lines = (place / "study" / "runs.jsonl").read_text()
    assert len(lines.splitlines()) == 4 and "hybrid: E" in capsys.readouterr().out
    for run in map(json.loads, lines.splitlines()):
        assert 0 < run["loss"] < 7 and run["tokens"] % 1024 == 0
    study.main(asked)
    assert (place / "study" / "runs.jsonl").read_text() == lines
    vocab = study.Tokenizer.from_directory(place / "tokenizer").vocab_size
    *_, longer = study.runs(argparse.Namespace(**{**vars(asked), "context": 1024}), vocab)
    hybrid = importlib.import_module("ladder").spec("hybrid", 32, vocab)
    assert longer["state"] == hybrid.state_bytes(1024, dtype="float32", kv_dtype="float32")
    assert (place / "study" / "runs.jsonl").read_text() == lines
    assert all((place / "study" / name).stat().st_size for name in ("fit.json", "isoflop.svg", "layouts.svg"))
