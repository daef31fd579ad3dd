"""Requests of different owners at one engine: each is answered as by a fresh one."""

from pathlib import Path

import pytest
from benchmarks.interleavings import KINDS, rounds_of


@pytest.mark.parametrize("kind", KINDS)
def test_interleavings(kind: str, tmp_path: Path) -> None:
    """Oracle: an engine that has seen nothing, for every answer; the benchmark of the same name has twenty rounds."""
    found = rounds_of(kind, rounds=1, seed=1, place=tmp_path)
    assert found.wrong == []
    assert found.answers >= 16
    assert not kind.startswith("variants") or found.refused > 0
    assert kind == "variants" or found.apart == 0.0
