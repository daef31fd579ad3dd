"""Low-rank adapters as modules beside the weights that they change.

A and B are float32 (float64 in a float64 model) whatever the weights are, packed ones included; so is their product
with the inputs, and the sum is rounded once.

Legend: I = inputs, O = outputs, K = rank, X = experts, V = vocabulary, D = width, T = tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..layers.linear import Adapter, Weight
from ..ops.linear.quantized import QuantizedWeight
from ..ops.numerics import widened


class LowRank(Adapter):
    """Low-rank change of a weight, W + scale B A.

    `down` is A [K, I] and `up` is B [O, K], each [X, ...] for experts' weights.
    """

    def __init__(self, shape: tuple[int, ...], rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        *experts, outputs, inputs = shape
        self.scale = scale
        self.dropout = dropout
        self.down = nn.Parameter(torch.empty(*experts, rank, inputs))
        self.up = nn.Parameter(torch.empty(*experts, outputs, rank))

    @property
    def rank(self) -> int:
        """Rank of the adapter: rows of A."""
        return self.down.shape[-2]

    def begin(self, weight: Weight, generator: torch.Generator) -> None:
        """Initialises A Kaiming-uniform and B with zeros: nothing is changed at first (Hu et al. 2021, section 4.1)."""
        bound = self.down.shape[-1] ** -0.5
        values = torch.rand(self.down.shape, generator=generator) * (2 * bound) - bound
        self.fill(weight, {"down": values, "up": torch.zeros(self.up.shape)})

    def fill(self, weight: Weight, parts: dict[str, Tensor]) -> None:
        """Sets the parameters by name, with the device and dtype that go with the weight."""
        for name, values in parts.items():
            setattr(self, name, nn.Parameter(values.to(weight.device, widest(weight.dtype))))

    def product(self, x: Tensor, expert: int | None = None) -> Tensor:
        """Change of a product, scale B A x, [..., O] in float32."""
        down, up = (self.down, self.up) if expert is None else (self.down[expert], self.up[expert])
        x = F.dropout(widened(x), self.dropout, self.training)
        return F.linear(F.linear(x, down), up) * self.scale

    def change(self) -> Tensor:
        """Change of the weight, scale B A, [..., O, I]."""
        return self.up @ self.down * self.scale

    def merged(self, weight: Tensor) -> Tensor:
        """Changed weight in float32."""
        return widened(weight) + self.change()

    def extra_repr(self) -> str:
        """Settings that change results, as text; fingerprints cover it."""
        return f"rank={self.rank}, scale={self.scale!r}"


class OnLinear(LowRank):
    """Adapter of a projection."""

    def forward(self, x: Tensor, y: Tensor, bias_O: Tensor | None) -> Tensor:
        """Adapted projection of x [..., I] from y = W x [..., O]: with the change and the bias, in y's dtype."""
        changed = widened(y) + self.product(x)
        return (changed if bias_O is None else changed + bias_O).to(y.dtype)


class OnLinearDora(OnLinear):
    """DoRA adapter of a projection: m (W + scale B A) / |W + scale B A|, by rows (Liu et al. 2024, eq. 5).

    The length |...| of each row takes no part in gradients (section 4.3). It is made from products with A, so
    that W + scale B A itself never exists, and W may be packed. `magnitude` is m, [O].
    """

    def __init__(self, shape: tuple[int, ...], rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(shape, rank, scale, dropout)
        self.magnitude = nn.Parameter(torch.empty(shape[0]))
        self._lengths: tuple[object, Tensor] | None = None

    def fill(self, weight: Weight, parts: dict[str, Tensor]) -> None:
        """Sets the parameters; keeps the weight, which is multiplied with A later."""
        # No submodule: a packed weight stays one of its projection alone.
        self.__dict__["_weight"] = weight
        lengths_O = row_lengths(weight)
        self._squares_O = lengths_O.square()
        super().fill(weight, {"magnitude": lengths_O, **parts})

    def forward(self, x: Tensor, y: Tensor, bias_O: Tensor | None) -> Tensor:
        """Adapted projection, each output scaled to its row's magnitude."""
        changed = (widened(y) + self.product(x)) * self.gain()
        return (changed if bias_O is None else changed + bias_O).to(y.dtype)

    def gain(self) -> Tensor:
        """Gain of each row: its magnitude over its length, [O]; gradients reach the magnitude."""
        return self.magnitude / self._length()

    def _length(self) -> Tensor:
        # Fused optimizers change parameters without their versions: what is trained is never remembered.
        if self.training or (torch.is_grad_enabled() and self.down.requires_grad):
            self._lengths = None
            return self._computed_length()
        state = tuple((id(p), p._version, p.data_ptr()) for p in (self.down, self.up))
        if self._lengths is None or self._lengths[0] != state:
            self._lengths = (state, self._computed_length())
        return self._lengths[1]

    @torch.no_grad()
    def _computed_length(self) -> Tensor:
        # |w + s B a|^2 = |w|^2 + 2 s (w A^T) . b + s^2 b (A A^T) b^T, row by row.
        cross_OK = ops.linear(self.down, self.__dict__["_weight"]).t()
        twice = 2 * self.scale * (cross_OK * self.up).sum(-1)
        square = self.scale**2 * ((self.up @ (self.down @ self.down.t())) * self.up).sum(-1)
        return (self._squares_O + twice + square).clamp_min(0).sqrt()

    def merged(self, weight: Tensor) -> Tensor:
        """Changed weight in float32."""
        return super().merged(weight) * self.gain()[:, None]

    def extra_repr(self) -> str:
        """Settings that change results, as text."""
        return f"{super().extra_repr()}, dora"


class OnExperts(LowRank):
    """Adapter of all experts' weights [X, O, I], each with an A and a B of its own."""

    def forward(self, x: Tensor, y: Tensor, expert: int) -> Tensor:
        """Adapted product of an expert for x [t, I] from y = W x [t, O]."""
        return (widened(y) + self.product(x, expert)).to(y.dtype)


class OnRouter(LowRank):
    """Adapter of a router, whose weight is asked for whole."""

    def forward(self, weight_OI: Tensor) -> Tensor:
        """Changed weight in float32."""
        return self.merged(weight_OI)


class OnEmbedding(LowRank):
    """Adapter of an embedding [V, D]: the row of token v is w_v + scale (B A)_v, with B [V, K] and A [K, D]."""

    def begin(self, weight: Weight, generator: torch.Generator) -> None:
        """Initialises the tokens' side with zeros and the other one normal, as published adapters of embeddings do."""
        values = torch.randn(self.down.shape, generator=generator)
        self.fill(weight, {"down": values, "up": torch.zeros(self.up.shape)})

    def forward(self, ids_T: Tensor, rows_TD: Tensor) -> Tensor:
        """Adapted rows [T, D] of `ids_T` from the embedding's own."""
        return (widened(rows_TD) + F.embedding(ids_T, self.up) @ self.down * self.scale).to(rows_TD.dtype)


def make_adapter(
    kind: type[LowRank], shape: tuple[int, ...], rank: int, scale: float, dropout: float, *, dora: bool
) -> LowRank:
    """Adapter of a kind for a weight of `shape`, without values; with `dora` for projections."""
    return (OnLinearDora if dora and kind is OnLinear else kind)(tuple(shape), rank, scale, dropout)


def widest(dtype: torch.dtype) -> torch.dtype:
    """Dtype of A and B beside weights of `dtype`."""
    return torch.promote_types(dtype, torch.float32)


@torch.no_grad()
def row_lengths(weight: Weight) -> Tensor:
    """L2 norm of each row of [O, I], in float32; a tile of rows at a time."""
    size = max(1, (1 << 22) // weight.shape[1])
    parts = [weight[begin : begin + size] for begin in range(0, weight.shape[0], size)]
    numbers = (p.dequantize(torch.float32) if isinstance(p, QuantizedWeight) else widened(p) for p in parts)
    return torch.cat([torch.linalg.vector_norm(tile, dim=-1) for tile in numbers])
