"""Weights in huge pages of memory.

Decoding reads every weight for each token, and does nothing else for most of its time. Processors
fetch ahead within a page: with pages of 2 MiB in place of 4 KiB they are ahead of the reading more of
the time. Files are mapped with small pages; so weights move to memory of the process's own, of which
Linux makes large pages where it is asked to. What they were mapped from is given up, so that there is
one copy, as before.
"""

import mmap
import os
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..model.identity import held_weights
from ..model.model import Model
from ..system.memory import available_memory

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_PAGE = 2 << 20
# Weights of one piece of memory: it is freed as a whole, when the last of them is replaced.
_PIECE = 64 << 20
# Smaller ones have a piece of their own: they stay when matrices are replaced by quantized ones.
_SMALL = 64 << 10
_ALIGNMENT = 64

_moved: WeakKeyDictionary[Model, list[range]] = WeakKeyDictionary()


def move_to_huge_pages(model: Model) -> None:
    """Moves the weights of a model on the CPU to huge pages, where the system has them and memory allows it."""
    known = _moved.setdefault(model, [])
    moving = [t for t in held_weights(model) if t.device.type == "cpu" and t.is_contiguous() and t.nbytes]
    moving = [t for t in moving if not any(t.data_ptr() in place for place in known)]
    # Files that were read stay in the system's cache for a while: only memory that is free anyway is taken.
    if not moving or not _offered() or 2 * sum(t.nbytes for t in moving) > available_memory():
        return
    with model.weights.keep_fingerprint():
        for alike in ([t for t in moving if t.nbytes >= _SMALL], [t for t in moving if t.nbytes < _SMALL]):
            while alike:
                piece = [alike.pop(0)]
                while alike and sum(map(_room, piece)) + _room(alike[0]) <= _PIECE:
                    piece.append(alike.pop(0))
                known.append(_move(piece))


def _offered() -> bool:
    if not hasattr(mmap, "MADV_HUGEPAGE") or os.environ.get("BRAIDLM_LARGE_PAGES") == "0":
        return False
    try:
        return "[never]" not in _SETTING.read_text()
    except OSError:
        return False


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def _move(tensors: list[Tensor]) -> range:
    """Moves tensors into one piece of memory; returns its addresses."""
    size = -(-sum(map(_room, tensors)) // _PAGE) * _PAGE
    memory = mmap.mmap(-1, size + _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    piece = torch.frombuffer(memory, dtype=torch.uint8)  # which keeps the memory
    at = -piece.data_ptr() % _PAGE
    for tensor in tensors:
        place = piece[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        place.copy_(tensor.detach())
        tensor.data = place
        at += _room(tensor)
    return range(piece.data_ptr(), piece.data_ptr() + len(piece))
