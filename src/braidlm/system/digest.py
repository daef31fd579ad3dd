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
from torch.nn import Parameter

_ROW = 8192 * 8  # bytes
_SAMPLED = 16  # elements of each tensor


def digest(header: str, tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hexadecimal digest of a text and of named tensors: their names, dtypes, shapes and every bit."""
    found = hashlib.sha256(header.encode())
    for name, tensor in tensors:
        found.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(_sums(tensor.detach()))
    return found.hexdigest()


@torch.no_grad()
def sampled(tensors: Iterable[Tensor]) -> int:
    """A number that tells apart tensors that differ in any of 16 elements each, spread evenly: some 3 us a tensor.

    Tensors that are not contiguous, and those of other kinds than torch's own, do not count.
    """
    parts: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        if type(tensor) in (Tensor, Parameter) and tensor.is_contiguous() and not tensor.is_meta and tensor.numel():
            count = min(_SAMPLED, tensor.numel())
            apart = max(1, (tensor.numel() - 1) // max(1, count - 1))
            apart -= apart > 1 and apart % 2 == 0  # odd: not all of them in one column
            plain = tensor.view(torch.uint8) if tensor.itemsize == 1 else tensor
            parts.setdefault(plain.dtype, []).append(plain.as_strided((count,), (apart,)))
    return hash(tuple(torch.cat(part).cpu().view(torch.uint8).numpy().tobytes() for part in parts.values()))


def _sums(tensor: Tensor) -> bytes:
    data = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()
    whole = len(data) // _ROW * _ROW
    table = data[:whole].view(np.uint64).reshape(-1, _ROW // 8)
    return table.sum(0).tobytes() + table.sum(1).tobytes() + data[whole:].tobytes()
