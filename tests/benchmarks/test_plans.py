"""The benchmark of plans: its ratios, and sessions that are held."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
from benchmarks import plan_sessions, plans
from benchmarks.plan_sessions import held
from benchmarks.plans import MEASURED, MODELS, ratios, row
from benchmarks.report import Report

from braidlm.errors import InputError
from braidlm.model.footprint import skeleton
from tests.families.tiny import tiny


def checked(factor: float) -> dict[str, list[dict[str, object]]]:
    """A check that measured `factor` times 2 MiB, or so many, of everything that was forecast to be 1 MiB."""
    return {"checked": [{"name": name, "forecast": 2**20, "measured": factor * 2**21} for name in MEASURED]}


def test_ratios() -> None:
    """Oracle: by hand; the forecast is half of the median of three rounds."""
    rounds = [checked(factor) for factor in (9.0, 1.0, 0.5)]
    assert ratios(rounds) == dict.fromkeys(MEASURED, 0.5)
    cells = row("model, bf16", rounds)
    assert cells[:2] == ["model, bf16", "1 / 2 = 0.500"]
    assert cells[-1] == "1.049e+06 / 2.097e+06 = 0.500"


def test_models() -> None:
    """Oracle: the kinds of layers that published models have; each is a model that can be built."""
    kinds = set()
    for part in MODELS.values():
        spec = part.spec
        skeleton(spec)
        kinds |= {type(layer).__name__ for block in spec.blocks for layer in (block.mixer, block.ffn)}
    assert kinds == {"Attention", "Mamba", "Mamba2", "Hyena", "Parallel", "Mlp", "Moe", "NoneType"}


@pytest.mark.parametrize("family", ["mamba2", "hymba", "granitemoehybrid"])
def test_held_sessions(family: str) -> None:
    """Oracle: the bytes of the states, and that weights, slots and copies come on top."""
    found = held(family, tiny(family, 0), 3000, 16, "int8", 2)
    assert found["states"] == found["planned_states"] > 0
    assert found["planned"] > found["weights"] + found["states"]


def test_table_of_held_sessions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: by hand, a cell for each head; planned is three quarters of held."""
    found = {"weights": 1024, "planned_states": 1024, "states": 1024, "planned": 3072, "grown": 4096}
    monkeypatch.setattr(plan_sessions, "held", lambda *given: found)
    given = Namespace(models=["mamba-130m"], context=1, count=1, kv_dtype="int8", tokens=1)
    plan_sessions.hold(given, Report(as_json=False))
    lines = [line for line in capsys.readouterr().out.splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in (lines[0], lines[-1])]
    assert cells[0][-1] == "planned / held"
    assert cells[1] == ["mamba-130m", "1.0 KiB", "1.0 KiB", "1.0 KiB", "3.0 KiB", "4.0 KiB", "0.750"]


def test_more_than_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the sentence."""
    monkeypatch.setattr("benchmarks.plan_sessions.available_memory", lambda: 1 << 16)
    with pytest.raises(InputError, match=r"llama needs .* but 64.0 KiB are free; ask for less"):
        held("llama", tiny("llama", 0), 3000, 16, "bfloat16", 2)


def test_report_of_checks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: by hand; all that was forecast was 12% less than was measured, which memory alone may not be."""
    asked: list[tuple[str, ...]] = []

    def planned(*arguments: str) -> dict[str, list[dict[str, object]]]:
        asked.append(arguments)
        return checked(1 / (2 * 0.88))

    monkeypatch.setattr(plans, "plan", planned)
    monkeypatch.setattr(plans, "MODELS", {"tiny": SimpleNamespace(spec=tiny("llama", 0))})
    given = SimpleNamespace(
        models=["tiny"], precisions=["bf16", "int4"], context=64, sessions=2, rounds=2, threads=1, part="checks"
    )
    report = Report(as_json=False)
    plans.measure(given, report)
    assert asked[0] == ("--calibrate", "--threads", "1")
    assert [arguments[-4:-2] for arguments in asked[1:]] == [("--threads", "1")] * 2 + [("--quantize", "int4")] * 2
    assert [sentence.partition(":")[0] for sentence in report.failed] == ["state, bytes", "resident memory, bytes"]
    said = capsys.readouterr().out
    assert "| tiny, int4 | 1 / 1.136 = 0.880 |" in said
    assert "time to first token, seconds: within 25%; the worst is 0.880, of tiny, bf16" in said
