"""Packed queries, keys and values of rows with a past."""

import torch
from torch import Tensor

from braidlm import ops
from braidlm.ops import Past, Segments, Visible, dispatch
from tests.ops.carried import randn

SCALE = 0.4
Heads = tuple[int, int, int, int]  # query heads, key heads, key size, value size


class Packed:
    """Rows with pasts that have a gap: `tensors` are queries, new keys and values, then those of each past."""

    def __init__(self, lengths: tuple[int, ...], held: tuple[int, ...], visible: Visible, heads: Heads) -> None:
        self.segments, self.visible = Segments(lengths), visible
        queries, groups, key, value = heads
        tokens = self.segments.total
        self.tensors = [randn(tokens, queries, key), randn(tokens, groups, key), randn(tokens, groups, value)]
        self.positions, self.starts = [], []
        for n in held:
            early = n // 2 if visible.window is not None else n
            at = [*range(early), *range(early + 300, n + 300)] if n > early else [*range(n)]
            self.positions.append(torch.tensor(at) if n else None)
            self.starts.append(at[-1] + 1 if n else 0)
            self.tensors += [randn(n, groups, key), randn(n, groups, value)] if n else []

    def outputs(self, tensors: list[Tensor], implementation: str) -> Tensor:
        held = iter(tensors[3:])
        past = tuple(None if at is None else Past(next(held), next(held), at) for at in self.positions)
        with dispatch.using(implementation):
            given = (*tensors[:3], past, tuple(self.starts), self.segments)
            return ops.attention(*given, scale=SCALE, visible=self.visible)

    def gradients(self, tensors: list[Tensor], implementation: str) -> list[Tensor]:
        """Of a random weighting of the outputs, for every tensor."""
        leaves = [t.detach().clone().requires_grad_() for t in tensors]
        y = self.outputs(leaves, implementation)
        drawn = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        y.backward(drawn.to(y.dtype))
        return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
