"""Digests of tensors at the speed of memory: any changed bit gives another one.

A cryptographic hash reads at 1-2 GB/s, which would make a large model wait. Here the bytes are
added up as 64-bit words, along the rows and along the columns of a table, and only these sums are
hashed. This finds accidents and other weights, not a forger.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

_ROW = 8192 * 8  # bytes


def digest(header: str, tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hexadecimal digest of a text and of named tensors: their names, dtypes, shapes and every bit."""
    found = hashlib.sha256(header.encode())
    for name, tensor in tensors:
        found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(_sums(tensor.detach()))
    return found.hexdigest()


def _sums(tensor: Tensor) -> bytes:
    data = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()
    whole = len(data) // _ROW * _ROW
    table = data[:whole].view(np.uint64).reshape(-1, _ROW // 8)
    return table.sum(0).tobytes() + table.sum(1).tobytes() + data[whole:].tobytes()
