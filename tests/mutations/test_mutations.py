"""A bounded slice of the harness: the same cases every time, a few of each kind."""

import subprocess
import sys
from pathlib import Path

from . import harness

ROOT = Path(__file__).parents[2]


def test_damaged_files() -> None:
    """Oracle: the rules of `verdicts` and of each kind; in a process of its own, since this one has threads."""
    asked = [sys.executable, "-m", "tests.mutations", "--count", "6"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    for kind in harness.KINDS:
        assert f"{kind:<12}{6:>8}" in found.stdout
