"""KV cache of one sequence in one layer: immutable pages of keys and values, in a storage dtype of few bits.

Nothing here is ever changed in place: appending makes a new `KeyValues` that shares every full
page with the old one. Forks and snapshots are therefore plain references, and a page is freed
when the last sequence that can see it is gone.

Legend: n = positions, G = key/value heads, K = size of a key or value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..ops import Past, Segments
from ..spec.state import PAGE_TOKENS, FullKV, WindowKV

KV_DTYPES = ("float64", "float32", "bfloat16", "float16", "fp8", "int8")
# Dtypes of less range than activations, which saturate instead of becoming infinite.
_LARGEST = {"fp8": torch.finfo(torch.float8_e4m3fn).max, "float16": torch.finfo(torch.float16).max}


class QuantizedKV(NamedTuple):
    """Keys or values in their storage dtype: `data` [n, G, K], and for int8 a `scale` [n, G]."""

    data: Tensor
    scale: Tensor | None

    def positions(self, part: slice) -> "QuantizedKV":
        """Keys or values of some positions, as a view."""
        return QuantizedKV(self.data[part], None if self.scale is None else self.scale[part])

    def detached(self) -> "QuantizedKV":
        """A copy without autograd history: gradients end here."""
        return QuantizedKV(self.data.detach(), None if self.scale is None else self.scale.detach())

    def nbytes(self) -> int:
        """Bytes of data and scale."""
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)


def quantize_kv(x_nGK: Tensor, kv_dtype: str) -> QuantizedKV:
    """Quantizes keys or values to `kv_dtype`: a dtype's name, "fp8" (e4m3) or "int8" (a scale per head and token)."""
    if kv_dtype in _LARGEST:
        kind = torch.float8_e4m3fn if kv_dtype == "fp8" else torch.float16
        return QuantizedKV(x_nGK.clamp(-_LARGEST[kv_dtype], _LARGEST[kv_dtype]).to(kind), None)
    if kv_dtype == "int8":
        wide = x_nGK.float()
        scale = wide.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        return QuantizedKV((wide / scale[..., None]).round().to(torch.int8), scale)
    return QuantizedKV(x_nGK.to(getattr(torch, kv_dtype)), None)


def dequantize_kv(stored: QuantizedKV, dtype: torch.dtype) -> Tensor:
    """Keys or values as stored, converted to `dtype`: [n, G, K]."""
    if stored.scale is not None:
        return (stored.data.to(torch.float32) * stored.scale[..., None]).to(dtype)
    return stored.data.to(dtype)


def _join(parts: list[QuantizedKV]) -> QuantizedKV:
    if len(parts) == 1:
        return QuantizedKV(parts[0].data.clone(), None if parts[0].scale is None else parts[0].scale.clone())
    scales = [part.scale for part in parts if part.scale is not None]
    return QuantizedKV(torch.cat([part.data for part in parts]), torch.cat(scales) if scales else None)


@dataclass(frozen=True)
class Page:
    """KV page: keys and values of up to `PAGE_TOKENS` positions from `start`, a multiple of `PAGE_TOKENS`."""

    start: int
    k: QuantizedKV
    v: QuantizedKV

    def first(self, count: int) -> "Page":
        """A copy of the page's first `count` positions."""
        part = slice(0, count)
        return Page(self.start, _join([self.k.positions(part)]), _join([self.v.positions(part)]))


def with_room(page: Page) -> Page:
    """A copy of a page as long as a full one; the positions behind those held are not initialised."""
    return Page(page.start, _with_room(page.k), _with_room(page.v))


def _with_room(stored: QuantizedKV) -> QuantizedKV:
    held = stored.data.shape[0]
    data = stored.data.new_empty(PAGE_TOKENS, *stored.data.shape[1:])
    data[:held] = stored.data
    if stored.scale is None:
        return QuantizedKV(data, None)
    scale = stored.scale.new_empty(PAGE_TOKENS, *stored.scale.shape[1:])
    scale[:held] = stored.scale
    return QuantizedKV(data, scale)


@dataclass(frozen=True)
class KeyValues:
    """KV cache of one sequence in one layer after `length` positions: the pages that its `spec` keeps of them."""

    spec: FullKV | WindowKV
    kv_dtype: str
    length: int = 0
    pages: tuple[Page, ...] = ()

    def append(self, k: QuantizedKV, v: QuantizedKV) -> "KeyValues":
        """A KV cache with the keys and values of the next positions; pages that no later query sees are dropped."""
        begin, total = self.length, self.length + k.data.shape[0]
        if begin == total:
            return self
        first, sink_tokens = self.spec.first_kept(total), self.spec.sink_tokens
        pages = [page for page in self.pages if page.start < sink_tokens or page.start >= first]
        start = begin // PAGE_TOKENS * PAGE_TOKENS
        while start < total:
            if start < sink_tokens or start >= first:
                part = slice(max(start, begin) - begin, min(start + PAGE_TOKENS, total) - begin)
                begun = [pages.pop()] if start < begin else []
                # Joining copies, so that a page never keeps a whole prompt's activations alive.
                k_page = _join([page.k for page in begun] + [k.positions(part)])
                v_page = _join([page.v for page in begun] + [v.positions(part)])
                pages.append(Page(start, k_page, v_page))
            start += PAGE_TOKENS
        return replace(self, length=total, pages=tuple(pages))

    def past(self, dtype: torch.dtype) -> Past | None:
        """Keys and values of all positions held, in `dtype`; None if there are none."""
        if not self.pages:
            return None
        k = dequantize_kv(_join([page.k for page in self.pages]), dtype)
        v = dequantize_kv(_join([page.v for page in self.pages]), dtype)
        spans = [torch.arange(page.start, page.start + page.k.data.shape[0]) for page in self.pages]
        return Past(k, v, torch.cat(spans).to(k.device))

    def detached(self) -> "KeyValues":
        """A copy without autograd history: gradients end here."""
        return replace(self, pages=tuple(Page(p.start, p.k.detached(), p.v.detached()) for p in self.pages))

    def with_pages(self, length: int, pages: Sequence[Page]) -> "KeyValues":
        """A KV cache of `length` positions that holds these pages."""
        return replace(self, length=length, pages=tuple(pages))

    def first(self, length: int) -> "KeyValues":
        """The KV cache as it was after the first `length` positions; for a `FullKV` only, which drops nothing."""
        assert isinstance(self.spec, FullKV) and length <= self.length
        pages = [page for page in self.pages if page.start < length]
        if length % PAGE_TOKENS and length < self.length:
            pages[-1] = pages[-1].first(length % PAGE_TOKENS)
        return self.with_pages(length, pages)

    def empty_page(self, start: int) -> Page:
        """A full page from position `start` on, not initialised; on the CPU."""
        sizes = ((0, self.spec.heads, size) for size in (self.spec.k_dim, self.spec.v_dim))
        k, v = (quantize_kv(torch.empty(size), self.kv_dtype) for size in sizes)
        return with_room(Page(start, k, v))

    @property
    def nbytes(self) -> int:
        """Bytes of all pages; a shared page counts for every sequence that holds it."""
        return sum(page.k.nbytes() + page.v.nbytes() for page in self.pages)

    def tensors(self) -> dict[str, Tensor]:
        """The pages joined to a few tensors by name, for saving; `from_tensors` restores them."""
        if not self.pages:
            return {}
        k, v = _join([page.k for page in self.pages]), _join([page.v for page in self.pages])
        found = {"k": k.data, "v": v.data, "k_scale": k.scale, "v_scale": v.scale}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def from_tensors(self, tensors: dict[str, Tensor], length: int) -> "KeyValues":
        """The KV cache of `length` positions whose `tensors` were saved; `ValueError` if they do not fit."""
        self._check(tensors, self.spec.kept(length))
        if not tensors:
            return self if length == 0 else replace(self, length=length)
        k, v = (QuantizedKV(tensors[name], tensors.get(f"{name}_scale")) for name in ("k", "v"))
        pages, offset = [], 0
        first, sink_tokens = self.spec.first_kept(length), self.spec.sink_tokens
        for start in range(0, length, PAGE_TOKENS):
            if start < sink_tokens or start >= first:
                part = slice(offset, offset + min(PAGE_TOKENS, length - start))
                pages.append(Page(start, _join([k.positions(part)]), _join([v.positions(part)])))
                offset = part.stop
        return replace(self, length=length, pages=tuple(pages))

    def _check(self, tensors: dict[str, Tensor], kept: int) -> None:
        """ValueError unless `tensors` are what `tensors()` gives for `kept` positions."""
        dtype: torch.dtype = torch.float8_e4m3fn if self.kv_dtype == "fp8" else getattr(torch, self.kv_dtype)
        sizes = {"k": self.spec.k_dim, "v": self.spec.v_dim}
        wanted: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            name: ((kept, self.spec.heads, size), dtype) for name, size in sizes.items()
        }
        if self.kv_dtype == "int8":
            wanted |= {f"{name}_scale": ((kept, self.spec.heads), torch.float32) for name in sizes}
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        if found != (wanted if kept else {}):
            raise ValueError(f"keys and values are {found}, where {kept} positions belong as {wanted}")


@dataclass(frozen=True)
class KvBatch:
    """KV caches of one layer for a packed batch: the rows' earlier positions and the new tokens'."""

    past: tuple[KeyValues, ...]
    new_k: QuantizedKV | None = None
    new_v: QuantizedKV | None = None

    def append(self, k_TGK: Tensor, v_TGK: Tensor) -> "KvBatch":
        """Adds the new tokens' keys and values, quantized to the storage dtype."""
        kv_dtype = self.past[0].kv_dtype
        return replace(self, new_k=quantize_kv(k_TGK, kv_dtype), new_v=quantize_kv(v_TGK, kv_dtype))

    def new(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of the new tokens as every later token will see them, in `dtype`."""
        assert self.new_k is not None and self.new_v is not None
        return dequantize_kv(self.new_k, dtype), dequantize_kv(self.new_v, dtype)

    def after(self, row: int, segments: Segments) -> list[KeyValues]:
        """KV caches of `row` at its snapshot positions and, last, after its new tokens; they share pages."""
        assert self.new_k is not None and self.new_v is not None
        held, begin, made = self.past[row], segments.starts[row], []
        for offset in (*segments.snapshot_positions_of(row), segments.lengths[row]):
            part = slice(begin, segments.starts[row] + offset)
            held = held.append(self.new_k.positions(part), self.new_v.positions(part))
            made.append(held)
            begin = part.stop
        return made
