"""Probe of the machine: its rates of reading memory and of multiplying matrices, and its description."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .. import __version__

_LARGEST_BUFFER = 2 << 30
_SIDE = 2048
_GLANCE_S = 1.0
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16", "i8mm")


def read_bandwidth(nbytes: int) -> float:
    """Measures the bytes a second at which torch's threads read `nbytes` (at most 2 GiB): the best of several."""
    numbers = torch.ones(max(1, min(nbytes, _LARGEST_BUFFER) // 4))
    best = min(shortest_run(lambda: torch.dot(numbers, numbers)), shortest_run(lambda: numbers.sum()))
    return numbers.nbytes / best


def matrix_rate(dtype: torch.dtype) -> float:
    """Measures the operations a second of a large matrix product in `dtype`, or in float32 where that is faster."""

    def rate(of: torch.dtype) -> float:
        a, b = torch.randn(_SIDE, _SIDE).to(of), torch.randn(_SIDE, _SIDE).to(of)
        return 2 * _SIDE**3 / shortest_run(lambda: torch.nn.functional.linear(a, b))

    return max(rate(of) for of in {dtype, torch.float32})


def shortest_run(run: Callable[[], Any], times: int = 8) -> float:
    """Seconds of the shortest of several runs: whatever else the machine does only adds to it."""
    best = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    return best


def median_run(run: Callable[[], Any], times: int) -> float:
    """Median of the seconds of several runs after a first one: what a run takes on the machine as it is."""
    run()
    return statistics.median(shortest_run(run, 1) for _ in range(times))


def machine() -> dict[str, Any]:
    """Description of the machine, as reports have it."""
    return {
        "processor": _processor(),
        "instructions": [flag for flag in _FLAGS if flag in _cpuinfo("flags", "Features").split()],
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "braidlm": __version__,
        "commit": _commit(),
    }


def busy_share() -> float:
    """Share of the cores' time that other processes take now; what is measured beside them is not to be trusted."""
    before = _ticks()
    time.sleep(_GLANCE_S)
    total, idle = (after - earlier for after, earlier in zip(_ticks(), before))
    return 1 - idle / total if total else 0.0


def _ticks() -> tuple[int, int]:
    """All of the cores' time so far, and what of it was idle."""
    try:
        ticks = [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return 0, 0
    return sum(ticks), ticks[3] + ticks[4]


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(*keys: str) -> str:
    """The first processor's value of a key in /proc/cpuinfo; "" where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() in keys), "")


def _commit() -> str | None:
    """The commit of the checkout that this package lies in, with a plus if it was changed; None elsewhere."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
