"""Builder of decode plans, into which layers write their decode steps."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ...spec.state import RecurrentState, StateSpec
from ...system.dtypes import name_of
from ..linear.native import held
from ..native_loader import extension

# How a recurrent state lies in a plan: as in a state, with its two dimensions exchanged, or (complex)
# as real and imaginary planes of the exchanged one. Channels come last, where vectors are.
Layout = Literal["same", "exchanged", "planes"]


class StateBuffer(NamedTuple):
    """One recurrent state of one block in a plan: its layout, shape and dtype."""

    block: int
    name: str
    layout: Layout
    shape: tuple[int, ...]
    dtype: torch.dtype


class PlanBuilder:
    """Builder of a decode plan: collects the operations of one block after the other.

    `x` is the buffer of the residual stream. Buffers are shared by all blocks: `buffer` gives
    the same one for the same name and width.
    """

    def __init__(self, width: int, dtype: torch.dtype, kv_dtype: str) -> None:
        self._native = extension()
        self.plan: Any = self._native.Plan()
        self.dtype = dtype
        self.kv_dtype = kv_dtype
        self.states: list[StateBuffer] = []
        self.kv_of_block: dict[int, int] = {}
        self.x: int = self.plan.allocate(width)
        self._block = 0
        self._specs: tuple[StateSpec, ...] = ()
        self._buffers: dict[tuple[str, int], int] = {}
        self._angles: dict[Any, tuple[int, int]] = {}

    def begin_block(self, block: int, specs: tuple[StateSpec, ...]) -> None:
        """Begins a block: operations that follow belong to it, with its state `specs`."""
        self._block, self._specs = block, specs

    def buffer(self, name: str, width: int) -> int:
        """Allocates a buffer of `width` floats a row; returns its offset."""
        if (name, width) not in self._buffers:
            self._buffers[name, width] = self.plan.allocate(width)
        return self._buffers[name, width]

    def state(self, name: str, layout: Layout) -> int:
        """Declares the block's recurrent state `name`, laid out for the kernels; returns its number."""
        spec = next(spec for spec in self._specs if isinstance(spec, RecurrentState) and spec.name == name)
        shape, dtype = spec.shape, self.dtype if spec.dtype == "activation" else torch.float32
        if layout != "same":
            shape = shape[::-1]
        if layout == "planes":
            shape = (2, *shape)
        self.states.append(StateBuffer(self._block, name, layout, shape, dtype))
        return self.plan.state(name_of(dtype), list(shape))

    def keys_values(self, heads: int, k_dim: int, v_dim: int) -> int:
        """Declares the block's own KV cache; returns its number."""
        self.kv_of_block[self._block] = self.plan.kv(self.kv_dtype, heads, k_dim, v_dim)
        return self.kv_of_block[self._block]

    def vector(self, tensor: Tensor | None) -> Tensor | None:
        """A small parameter as kernels read it: contiguous float32."""
        return None if tensor is None else tensor.detach().float().contiguous()

    def weight(self, weight: Any) -> Any:
        """The extension's view of a matrix [O, I] or experts' matrices [X, O, I], plain or quantized."""
        return held(weight)

    def pair(self, linear: Any) -> tuple[Any, Tensor | None]:
        """Weight and bias of a Linear module, for the extension."""
        return self.weight(linear.weight), self.vector(linear.bias)

    # --- inputs ---

    def plain(self, buffer: int, width: int) -> Any:
        """Input that reads a buffer as it is."""
        return self._native.plain(buffer, width)

    def normed(self, buffer: int, norm: Any) -> Any:
        """Input that norms a buffer by an RmsNorm module."""
        gains = self.vector(norm.gains("cpu"))
        return self._native.rms(buffer, gains, norm.norm.eps, norm.norm.eps_outside_root)

    def gated(self, y: int, gate: int, norm: Any, groups: int) -> Any:
        """Input that gates and norms a buffer, as Mamba-2 does."""
        return self._native.gated(y, gate, self.vector(norm.weight), norm.norm.eps, groups)

    def mean(self, x: int, norm: Any, other: int, other_norm: Any) -> Any:
        """Input that is the mean of two normed buffers."""
        kind = norm.norm
        weights = self.vector(norm.weight), self.vector(other_norm.weight)
        return self._native.mean(x, weights[0], other, weights[1], kind.eps, kind.eps_outside_root)

    def sum(self, x: int, other: int, other_norm: Any) -> Any:
        """Input that is the sum of a buffer and a normed one."""
        kind = other_norm.norm
        return self._native.sum(x, other, self.vector(other_norm.weight), kind.eps, kind.eps_outside_root)

    # --- operations ---

    def step(self, operation: str, *arguments: Any, **named: Any) -> None:
        """Adds one token of `operation`: `<operation>_step` of its binding.cpp, whose arguments these are.

        Buffers, states and KV caches are given by their numbers, parameters as contiguous float32 (see `vector`).
        """
        getattr(self._native, f"{operation}_step")(self.plan, *arguments, **named)

    def linear(self, source: Any, *targets: tuple[Any, int]) -> None:
        """Adds products of one input with several Linear modules, each stored in its buffer."""
        self.step("linear", source, [self._part(linear, "store", buffer, 1.0) for linear, buffer in targets])

    def add_to_residual(self, source: Any, linear: Any, scale: float) -> None:
        """Adds `scale` times a Linear module's result to the residual stream."""
        self.step("linear", source, [self._part(linear, "add", self.x, scale)])

    def scores(self, source: Any, weight: Any, buffer: int) -> None:
        """Adds a product with a bare weight, stored in a buffer."""
        self.step("linear", source, [self._native.Part(self.weight(weight), None, "store", buffer, 1.0)])

    def logits(self, source: Any, weight: Any, scale: float) -> None:
        """Adds the product with the head, whose results are the step's logits."""
        self.step("linear", source, [self._native.Part(self.weight(weight), None, "logits", 0, scale)])

    def _part(self, linear: Any, kind: str, buffer: int, scale: float) -> Any:
        return self._native.Part(*self.pair(linear), kind, buffer, scale)

    def angles(
        self, key: Any, frequencies: Tensor, magnitude: float, growing: tuple[float, float, int] | None
    ) -> tuple[int, int]:
        """Buffers of the cosines and sines of each row's position, computed once a pass for each `key`.

        Both are multiplied by `magnitude`. `growing` is a base that grows with the position: the base, its factor, and
        the positions before it grows.
        """
        if key not in self._angles:
            pairs = len(frequencies)
            cosines, sines = self.plan.allocate(pairs), self.plan.allocate(pairs)
            self.step("rotary_angles", self.vector(frequencies), magnitude, *(growing or (0.0, 0.0, 0)), cosines, sines)
            self._angles[key] = (cosines, sines)
        return self._angles[key]
