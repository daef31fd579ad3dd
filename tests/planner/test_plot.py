"""Pictures of plans."""

from pathlib import Path

import pytest

from braidlm.planner import calibration
from tests.cli.commands import braid, data, entry
from tests.planner.measured import MEASURED


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_costs_by_context() -> None:
    """Oracle: the plans of those contexts themselves, up to the declared length."""
    calibration.save(MEASURED)
    found = data("plan", "hymba-1.5b", "--context", "3000", "--sessions", "3")["by_context"]
    assert [cost["context"] for cost in found] == [256, 512, 1024, 2048, 3000, 4096, 8192]
    for cost in found[::3]:
        plan = data("plan", "hymba-1.5b", "--context", str(cost["context"]), "--sessions", "3")
        assert cost["state"] == plan["state"]
        assert cost["tokens_per_second"] == plan["speed"]["tokens_per_second_of_all"]
    longest = data("plan", "mamba-130m", "--context", "200000")["by_context"][-2:]
    assert [cost["context"] for cost in longest] == [131072, 200000]


def test_picture(tmp_path: Path) -> None:
    """Oracle: the words that an SVG names in its comments, and the bytes of a second one; a PNG's first bytes."""
    calibration.save(MEASURED)
    files = [tmp_path / name for name in ("plan.svg", "again.SVG", "plan.png")]
    asked = ("plan", "mamba-130m", "--compare", "smollm2-135m", "--sessions", "2", "--plot")
    for file in files:
        assert braid(*asked, str(file)).exit_code == 0
    drawn = files[0].read_text()
    for words in ("mamba-130m", "smollm2-135m", "bytes", "context, tokens", "tokens a second", "4K", "16 MiB"):
        assert f"<!-- {words} -->" in drawn
    assert "<!-- state of a sequence, keys and values in bfloat16 -->" in drawn
    assert "<!-- decode of 2 sequences at once, forecast -->" in drawn
    assert drawn == files[1].read_text()
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_picture_of_one_model_without_speed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: the kinds of state that hymba has, and the sentence that says what is left out."""
    ended = entry(capfd, "plan", "hymba-1.5b", "--plot", str(tmp_path / "plan.svg"))
    assert ended.returncode == 0
    assert "this machine is not measured" in ended.stderr
    drawn = (tmp_path / "plan.svg").read_text()
    for words in ("keys and values", "keys and values of windows", "recurrent states"):
        assert f"<!-- {words} -->" in drawn
    assert "forecast" not in drawn


def test_what_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: the sentences."""
    (tmp_path / "there.svg").touch()
    many = [word for _ in range(6) for word in ("--compare", "mamba-130m")]
    for arguments, sentence in (
        (("--plot", str(tmp_path / "plan.svg")), "--plot needs a model"),
        (("mamba-130m", "--check", "--plot", str(tmp_path / "plan.svg")), "--check runs one model and nothing beside"),
        (("mamba-130m", "--plot", str(tmp_path / "plan.gif")), ".png, .svg"),
        (("mamba-130m", "--plot", str(tmp_path / "there.svg")), "exists already"),
        (("mamba-130m", *many, "--plot", str(tmp_path / "plan.svg")), "at most 6 models, but 7 are given"),
    ):
        ended = entry(capfd, "plan", *arguments)
        assert ended.returncode == 2
        assert sentence in ended.stderr
        assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "plan.svg").exists()
