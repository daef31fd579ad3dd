"""A plan under construction, as mixers see it."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ...spec.state import RecurrentState, StateSpec
from ..linear.native import held
from ..native_loader import extension

# How a slot's tensor lies in a plan: as in a state, with its two dimensions exchanged, or (complex)
# as real and imaginary planes of the exchanged one. Channels come last, where lanes are.
Layout = Literal["same", "exchanged", "planes"]


class StateBuffer(NamedTuple):
    """Where a plan keeps one slot of one block."""

    block: int
    name: str
    layout: Layout
    shape: tuple[int, ...]
    dtype: torch.dtype


class PlanBuilder:
    """Collects the operations of one block after the other.

    `x` is the place of the residual stream. Scratch places are shared by all blocks: `place` gives
    the same one for the same name and width.
    """

    def __init__(self, width: int, dtype: torch.dtype, kv_dtype: str) -> None:
        self._native = extension()
        self.plan: Any = self._native.Plan()
        self.dtype = dtype
        self.kv_dtype = kv_dtype
        self.states: list[StateBuffer] = []
        self.kv_of_block: dict[int, int] = {}
        self.x: int = self.plan.place(width)
        self._block = 0
        self._slots: tuple[StateSpec, ...] = ()
        self._places: dict[tuple[str, int], int] = {}
        self._angles: dict[Any, tuple[int, int]] = {}

    def begin_block(self, block: int, slots: tuple[StateSpec, ...]) -> None:
        """From now on operations belong to this block."""
        self._block, self._slots = block, slots

    def buffer(self, name: str, width: int) -> int:
        """Scratch room of `width` floats a row."""
        if (name, width) not in self._places:
            self._places[name, width] = self.plan.place(width)
        return self._places[name, width]

    def state(self, name: str, layout: Layout) -> int:
        """The block's slot `name`, laid out for the kernels."""
        slot = next(slot for slot in self._slots if isinstance(slot, RecurrentState) and slot.name == name)
        shape, dtype = slot.shape, self.dtype if slot.dtype == "activation" else torch.float32
        if layout != "same":
            shape = shape[::-1]
        if layout == "planes":
            shape = (2, *shape)
        self.states.append(StateBuffer(self._block, name, layout, shape, dtype))
        return self.plan.state(str(dtype).removeprefix("torch."), list(shape))

    def keys_values(self, heads: int, k_dim: int, v_dim: int) -> int:
        """The block's own keys and values."""
        self.kv_of_block[self._block] = self.plan.kv(self.kv_dtype, heads, k_dim, v_dim)
        return self.kv_of_block[self._block]

    def vector(self, tensor: Tensor | None) -> Tensor | None:
        """A small parameter as the kernels read it: contiguous float32."""
        return None if tensor is None else tensor.detach().float().contiguous()

    def weight(self, weight: Any) -> Any:
        """A matrix [O, I] or experts' matrices [X, O, I], plain or quantized, in place."""
        return held(weight)

    def pair(self, linear: Any) -> tuple[Any, Tensor | None]:
        """A Linear module's weight and bias."""
        return self.weight(linear.weight), self.vector(linear.bias)

    # --- inputs ---

    def plain(self, place: int, width: int) -> Any:
        """The numbers at a place."""
        return self._native.plain(place, width)

    def normed(self, place: int, norm: Any) -> Any:
        """An RmsNorm module of a place."""
        gains = self.vector(norm.gains("cpu"))
        return self._native.rms(place, gains, norm.norm.eps, norm.norm.eps_outside_root)

    def gated(self, y: int, gate: int, norm: Any, groups: int) -> Any:
        """The gated norm of Mamba-2."""
        return self._native.gated(y, gate, self.vector(norm.weight), norm.norm.eps, groups)

    def mean(self, x: int, norm: Any, other: int, other_norm: Any) -> Any:
        """The mean of two normed places."""
        form = norm.norm
        weights = self.vector(norm.weight), self.vector(other_norm.weight)
        return self._native.mean(x, weights[0], other, weights[1], form.eps, form.eps_outside_root)

    # --- operations ---

    def linear(self, source: Any, *targets: tuple[Any, int]) -> None:
        """Products of one input with several Linear modules, each stored at its place."""
        self.plan.linear(source, [self._part(linear, "store", place, 1.0) for linear, place in targets])

    def add(self, source: Any, linear: Any, scale: float) -> None:
        """Adds `scale` times a Linear module's result to the residual stream."""
        self.plan.linear(source, [self._part(linear, "add", self.x, scale)])

    def scores(self, source: Any, weight: Any, place: int) -> None:
        """The product with a bare weight, stored at a place."""
        self.plan.linear(source, [self._native.Part(self.weight(weight), None, "store", place, 1.0)])

    def logits(self, source: Any, weight: Any, scale: float) -> None:
        """The product that the caller gets."""
        self.plan.linear(source, [self._native.Part(self.weight(weight), None, "logits", 0, scale)])

    def _part(self, linear: Any, kind: str, place: int, scale: float) -> Any:
        return self._native.Part(*self.pair(linear), kind, place, scale)

    def angles(
        self, key: Any, frequencies: Tensor, magnitude: float, growing: tuple[float, float, int] | None
    ) -> tuple[int, int]:
        """Places of the cosines and sines of each row's position, computed once a pass for each `key`.

        Both are multiplied by `magnitude`. `growing` is a base that grows with the position: the base, its factor, and
        the positions before it grows.
        """
        if key not in self._angles:
            pairs = len(frequencies)
            cosines, sines = self.plan.place(pairs), self.plan.place(pairs)
            self.plan.angles(self.vector(frequencies), magnitude, *(growing or (0.0, 0.0, 0)), cosines, sines)
            self._angles[key] = (cosines, sines)
        return self._angles[key]
