"""The garbage collector while a process starts."""

import gc
import subprocess
import sys

import torch

from braidlm.system.collector import without_collector

START = """
import gc
from braidlm.system.collector import without_collector
before = gc.get_freeze_count()
with without_collector():
    assert not gc.isenabled()
    made = [[] for _ in range(1000)]
assert gc.isenabled() and gc.get_freeze_count() - before > 1000
"""


def test_a_process_starts() -> None:
    """Oracle: the collector's own account of what it does not look through."""
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_process_that_has_started() -> None:
    """Oracle: here torch is imported: the collector goes on, and looks through everything."""
    assert torch.__name__ in sys.modules
    before = gc.get_freeze_count()
    with without_collector():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before
