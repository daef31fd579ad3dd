"""What the process does with freed memory."""

import subprocess
import sys

import pytest

from braidlm.system.memory import keep_freed_memory

_HELD = """
import gc, torch
from pathlib import Path
from braidlm.system.memory import give_back, keep_freed_memory
assert keep_freed_memory()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
blocks = [torch.ones(1 << 14) for _ in range(3000)]  # 64 KiB each
kept = blocks[::50]
del blocks
gc.collect()
before = resident()
give_back()
print(before - resident())
assert all(bool((block == 1).all()) for block in kept)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="another allocator, or one that was set up by the user")
def test_what_is_free_between_blocks_in_use_goes_back() -> None:
    """Oracle: the system's count of the process's pages, of which 188 MiB were freed, but for some in use between."""
    made = subprocess.run([sys.executable, "-c", _HELD], capture_output=True, text=True, timeout=120, check=True)
    assert int(made.stdout) > 120 << 20
