"""Allocator of tensors in huge pages of memory, which Linux makes where it is asked to (transparent huge pages).

Decoding reads every weight for each token, and does nothing else for most of its time. Processors
fetch ahead within a page: with pages of 2 MiB in place of 4 KiB they are ahead of the reading more of
the time. To fill such pages for the first time is faster, too.
"""

import mmap
import os
import weakref
from pathlib import Path

import torch
from torch import Tensor

from .memory import small_pages_alone

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_PAGE = 2 << 20
# Tensors of one piece of memory: it is freed as a whole, when the last of them is.
_PIECE = 64 << 20
_ALIGNMENT = 64

_live: list[range] = []


def offered() -> bool:
    """Whether the system makes huge pages, and neither the environment (BRAIDLM_HUGE_PAGES=0) nor a caller objects."""
    if not hasattr(mmap, "MADV_HUGEPAGE") or os.environ.get("BRAIDLM_HUGE_PAGES") == "0" or small_pages_alone.get():
        return False
    try:
        return "[never]" not in _SETTING.read_text()
    except OSError:
        return False


def in_huge_pages(tensor: Tensor) -> bool:
    """Whether a tensor lies in memory of a `HugePages`."""
    return any(tensor.data_ptr() in place for place in tuple(_live))


class HugePages:
    """Allocator of tensors beside each other in huge pages, or plain tensors where there are none."""

    def __init__(self) -> None:
        self._offered = offered()
        self._piece = torch.empty(0, dtype=torch.uint8)

    def empty(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """A tensor on the CPU whose numbers are still to be filled in."""
        nbytes = shape.numel() * dtype.itemsize
        if not self._offered or not nbytes:
            return torch.empty(shape, dtype=dtype)
        room = -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        if room > len(self._piece):
            self._piece = _allocate(max(room, _PIECE))
        taken, self._piece = self._piece[:nbytes], self._piece[room:]
        return taken.view(dtype).view(shape)


def _allocate(size: int) -> Tensor:
    """Bytes from the beginning of a huge page on; pages that nobody writes to take no memory."""
    memory = mmap.mmap(-1, size + _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)  # which keeps the memory
    place = range(whole.data_ptr(), whole.data_ptr() + len(whole))
    _live.append(place)
    weakref.finalize(memory, _live.remove, place).atexit = False
    begin = -whole.data_ptr() % _PAGE
    return whole[begin : begin + size]
