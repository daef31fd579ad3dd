"""Runs of training under `kill -9`."""

from pathlib import Path

from tests.train.killed import both, kill


def test_kills_lose_nothing_before_the_last_checkpoint(tmp_path: Path) -> None:
    """Oracle: an undisturbed run: after kills at random moments, the losses of all steps are the same."""
    seen = kill(tmp_path / "run", 3)
    step, found, whole = both(tmp_path / "run", tmp_path / "calm")
    assert step >= seen - 1  # one step may have been told and not yet kept
    assert found == whole and len(found) >= 6
