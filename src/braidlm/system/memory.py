"""The process's memory: how much there is, and how freed blocks are kept for the next operation.

glibc gives blocks of more than a few hundred kilobytes back to the kernel as soon as they are
freed, and the next activation of that size is zeroed page by page again: on a CPU that makes an
elementwise operation several times slower than its arithmetic. Nothing here changes results.
"""

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

# From glibc's malloc.h; the threshold above which a block is mapped cannot be raised further.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGEST_HEAP_BLOCK = 32 << 20
_KEPT, _ALL = 512 << 20, 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Lets glibc keep up to 512 MiB of freed memory; whether it does.

    Does nothing where another allocator is used, or where the user has set glibc's own MALLOC_
    variables or BRAIDLM_MALLOC=0.
    """
    return _set((_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK), (_TRIM_THRESHOLD, _KEPT))


@functools.cache
def keep_all_freed_memory() -> bool:
    """Lets glibc keep what a step of training has freed for the next one, blocks of any size; whether it does.

    For the rest of the process, and where `keep_freed_memory` would do something.
    """
    return keep_freed_memory() and _set((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _ALL))


def give_back() -> None:
    """Gives the system what glibc keeps free between blocks in use, which nothing limits; the work of about 10 ms.

    Only where `keep_freed_memory` does something.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if keep_freed_memory() and trim is not None:
        trim(0)


def _set(*options: tuple[int, int]) -> bool:
    chosen = os.environ.get("BRAIDLM_MALLOC") == "0" or any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or chosen:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) for option, value in options)


small_pages_alone: ContextVar[bool] = ContextVar("small_pages_alone", default=False)


@contextmanager
def without_huge_pages(wanted: bool) -> Iterator[None]:
    """Context in which weights stay in pages of the usual size, if `wanted`: for models that decode a few tokens.

    Huge pages (`huge_pages`) save a tenth or so of each decode step; virtual machines may take a second to fill them.
    """
    token = small_pages_alone.set(wanted)
    try:
        yield
    finally:
        small_pages_alone.reset(token)


def available_memory() -> int:
    """Bytes that new processes can take without pushing others out."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def resident_memory() -> int:
    """Resident memory of this process in bytes; 0 where the system does not tell it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
