"""The cache of calibrations, and numbers of rows between measured ones."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from braidlm.errors import InputError
from braidlm.ops import dispatch
from braidlm.ops.threads import on_threads
from braidlm.planner import calibration
from braidlm.planner.calibration import seconds_at
from tests.planner.measured import MEASURED


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(("rows", "seconds"), [(1, 1.0), (2, 3.0), (4, 7.0), (16, 8.0), (136, 16.0), (512, 48.0)])
def test_rows_between_measured_ones(rows: int, seconds: float) -> None:
    """Oracle: lines between 1, 7, 8 and 24 seconds at 1, 4, 16 and 256 rows, and twice the last at twice its rows."""
    assert seconds_at((1.0, 7.0, 8.0, 24.0), rows) == pytest.approx(seconds)


def test_rows_of_steps() -> None:
    """Oracle: lines between 1, 7 and 8 seconds at 1, 4 and 16 rows, and twice the last at twice its rows."""
    assert [seconds_at((1.0, 7.0, 8.0), rows) for rows in (2.5, 10, 32)] == pytest.approx([4.0, 7.5, 16.0])


def test_the_cache_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what was saved; another machine has none, and its own stands beside."""
    assert calibration.saved() is None
    file = calibration.save(MEASURED)
    assert calibration.saved() == MEASURED
    monkeypatch.setattr(
        calibration, "machine", lambda: dict.fromkeys(("processor", "cores", "memory", "torch", "braidlm"))
    )
    assert calibration.saved() is None
    calibration.save(replace(MEASURED, process_bytes=1))
    assert len(json.loads(file.read_text())) == 2


def test_what_a_measurement_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: none for other threads, kernels, versions and ways to measure than it was made of; again for its own."""
    calibration.save(MEASURED)
    with on_threads(torch.get_num_threads() + 1):
        assert calibration.saved() is None
    with dispatch.using("reference"):
        assert calibration.saved() is None
    known = calibration.machine()
    for other in ({"braidlm": "9.9"}, {"torch": "9.9"}):
        with monkeypatch.context() as patch:
            patch.setattr(calibration, "machine", lambda other=other: known | other)
            assert calibration.saved() is None
    with monkeypatch.context() as patch:
        patch.setattr(calibration, "_METHOD", 0)
        assert calibration.saved() is None
    assert calibration.saved() == MEASURED


def test_a_damaged_cache() -> None:
    """Oracle: the sentence."""
    file = calibration.save(MEASURED)
    (key,) = json.loads(file.read_text())
    whole = json.loads(file.read_text())[key]
    damaged = [{"weights": {}}, [], whole | {"step": 3}, whole | {"step": [7.0]}, whole | {"kv": {"bfloat16": []}}]
    damaged += [whole | {"process_bytes": size} for size in ("x", True, -1)]
    damaged += [whole | {"prompts": {"Mamba": cost}} for cost in ([1.0], [1.0, "2"], [1.0, float("inf")])]
    damaged += [whole | {"weights": whole["weights"] | {"int8": [0.0] * 4}}]
    for text in (*(json.dumps({key: kept}) for kept in damaged), "no JSON", "[]"):
        file.write_text(text)
        with pytest.raises(InputError, match="is damaged; run braid plan --calibrate"):
            calibration.saved()
        calibration.save(MEASURED)
        assert calibration.saved() == MEASURED


def test_a_cache_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the sentence, from the check before a measurement too, which leaves a cache that can be as it was."""
    file = calibration.save(MEASURED)
    calibration.check_cache()
    assert calibration.saved() == MEASURED
    assert list(file.parent.iterdir()) == [file]
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "braidlm" / "calibration.json").mkdir(parents=True)
    for place in ("file", "taken"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
        for write in (calibration.check_cache, lambda: calibration.save(MEASURED)):
            with pytest.raises(InputError, match=r"cannot write .*calibration\.json: "):
                write()
