"""Threads of kernels: as many as torch uses, which this package keeps within the container's share.

torch takes its number from OMP_NUM_THREADS or counts processors; it does not see that a container
may be limited to the time of fewer of them (cgroup quotas).
"""

import functools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: "quota period" in microseconds, or "max period"


def count() -> int:
    """Number of threads of one kernel call."""
    return torch.get_num_threads()


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Context in which torch and kernels use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def limit_to_share(cpu_max: Path = _CPU_MAX) -> None:
    """Lowers torch's number of threads to the container's share, unless the user chose one (OMP_NUM_THREADS)."""
    share = _share(cpu_max)
    if "OMP_NUM_THREADS" not in os.environ and share is not None and share < torch.get_num_threads():
        torch.set_num_threads(share)


def processors(cpu_max: Path = _CPU_MAX) -> int:
    """Number of processors whose time this process may have."""
    return min(len(os.sched_getaffinity(0)), _share(cpu_max) or os.cpu_count() or 1)


def _share(cpu_max: Path) -> int | None:
    try:
        quota, period = cpu_max.read_text().split()[:2]
        return None if quota == "max" else max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return None
