"""State specs: what a sequence carries between tokens, described without tensors.

A mixer declares its states; `state.empty_sequence` allocates them, and their `nbytes` is what planning
prints before anything is loaded. Four kinds cover every family.

Keys and values live in pages of `PAGE_TOKENS` positions, aligned to absolute position, so that
sequences can share them; a window frees a page once no later query can see any of it.
"""

from dataclasses import dataclass
from typing import Literal

PAGE_TOKENS = 128

StateDtype = Literal["activation", "float32", "complex64"]
ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1, "int8": 1, "complex64": 8}
SCALE_BYTES = {"int8": 4}  # one float32 scale per head and token, for the key and for the value


@dataclass(frozen=True, kw_only=True, slots=True)
class RecurrentState:
    """Spec of a state of constant size: a convolution's tail or a recurrent state."""

    name: str
    shape: tuple[int, ...]
    dtype: StateDtype

    def nbytes(self, length: int, dtype: str, kv_dtype: str) -> int:
        """Bytes of the state, at any `length`, for activations of `dtype`."""
        count = 1
        for size in self.shape:
            count *= size
        # In a float64 model, recurrent states are as wide as activations.
        wide = 2 if dtype == "float64" and self.dtype != "activation" else 1
        return count * wide * ITEM_BYTES[dtype if self.dtype == "activation" else self.dtype]


@dataclass(frozen=True, kw_only=True, slots=True)
class FullKV:
    """Spec of a KV cache of every position so far."""

    heads: int
    k_dim: int
    v_dim: int

    def first_kept(self, length: int) -> int:
        """First position after the sink tokens that is still held at `length`."""
        return 0

    @property
    def sink_tokens(self) -> int:
        """Number of positions at the start that are always visible: none, since all are held."""
        return 0

    def kept(self, length: int) -> int:
        """Number of positions held once `length` positions have been seen."""
        return length

    def nbytes(self, length: int, dtype: str, kv_dtype: str) -> int:
        """Bytes at `length` positions, for keys and values stored as `kv_dtype`."""
        return self.kept(length) * token_bytes(self, kv_dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowKV:
    """Spec of a KV cache of a sliding window and of attention sinks.

    `window` counts the visible keys including the query itself; the first `sink_tokens` positions
    are visible to every query and never let go.
    """

    heads: int
    k_dim: int
    v_dim: int
    window: int
    sink_tokens: int

    def first_kept(self, length: int) -> int:
        """First page-aligned position that the query at position `length` or a later one can see."""
        return max(0, length + 1 - self.window) // PAGE_TOKENS * PAGE_TOKENS

    def kept(self, length: int) -> int:
        """Number of positions held once `length` positions have been seen."""
        prefix_end = min(length, -(-self.sink_tokens // PAGE_TOKENS) * PAGE_TOKENS)
        first = max(self.first_kept(length), prefix_end)
        return prefix_end + max(0, length - first)

    def nbytes(self, length: int, dtype: str, kv_dtype: str) -> int:
        """Bytes at `length` positions, for keys and values stored as `kv_dtype`."""
        return self.kept(length) * token_bytes(self, kv_dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedKV:
    """Spec of a KV cache that belongs to an earlier block, `layer`."""

    layer: int

    def nbytes(self, length: int, dtype: str, kv_dtype: str) -> int:
        """Zero bytes: the owner counts them."""
        return 0


StateSpec = RecurrentState | FullKV | WindowKV | SharedKV


def token_bytes(spec: FullKV | WindowKV, kv_dtype: str) -> int:
    """Bytes of one position's keys and values, stored as `kv_dtype`."""
    values = spec.heads * (spec.k_dim + spec.v_dim) * ITEM_BYTES[kv_dtype]
    return values + 2 * spec.heads * SCALE_BYTES.get(kv_dtype, 0)
