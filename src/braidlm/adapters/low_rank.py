"""The changes themselves, as modules beside the weights that they change.

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
    """W + scale B A; `down` is A [K, I] and `up` is B [O, K], each [X, ...] for experts' weights."""

    def __init__(self, shape: tuple[int, ...], rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        *experts, outputs, inputs = shape
        self.scale = scale
        self.dropout = dropout
        self.down = nn.Parameter(torch.empty(*experts, rank, inputs))
        self.up = nn.Parameter(torch.empty(*experts, outputs, rank))

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.down.shape[-2]

    def begin(self, weight: Weight, generator: torch.Generator) -> None:
        """A is Kaiming-uniform, B is zero: at first nothing is changed (Hu et al. 2021, section 4.1)."""
        bound = self.down.shape[-1] ** -0.5
        values = torch.rand(self.down.shape, generator=generator) * (2 * bound) - bound
        self.fill(weight, {"down": values, "up": torch.zeros(self.up.shape)})

    def fill(self, weight: Weight, parts: dict[str, Tensor]) -> None:
        """Takes the values of its parameters, and what it needs to know of the weight."""
        for name, values in parts.items():
            setattr(self, name, nn.Parameter(values.to(weight.device, widest(weight.dtype))))

    def product(self, x: Tensor, expert: int | None = None) -> Tensor:
        """scale B A x in float32, [..., O]."""
        down, up = (self.down, self.up) if expert is None else (self.down[expert], self.up[expert])
        x = F.dropout(widened(x), self.dropout, self.training)
        return F.linear(F.linear(x, down), up) * self.scale

    def change(self) -> Tensor:
        """scale B A, [..., O, I]."""
        return self.up @ self.down * self.scale

    def merged(self, weight: Tensor) -> Tensor:
        """The changed weight in float32."""
        return widened(weight) + self.change()

    def extra_repr(self) -> str:
        """What is no parameter but changes results; fingerprints count it."""
        return f"rank={self.rank}, scale={self.scale!r}"


class OnLinear(LowRank):
    """Of a projection."""

    def forward(self, x: Tensor, y: Tensor, bias_O: Tensor | None) -> Tensor:
        """The projection of x [..., I] from y = W x [..., O]: with the change and the bias, in y's dtype."""
        changed = widened(y) + self.product(x)
        return (changed if bias_O is None else changed + bias_O).to(y.dtype)


class OnLinearDora(OnLinear):
    """Of a projection, its rows' lengths learned apart: m (W + scale B A) / |W + scale B A| (Liu et al. 2024, eq. 5).

    The length |...| of each row takes no part in gradients (section 4.3). It is made from products with A, so
    that W + scale B A itself never exists, and W may be packed. `magnitude` is m, [O].
    """

    def __init__(self, shape: tuple[int, ...], rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(shape, rank, scale, dropout)
        self.magnitude = nn.Parameter(torch.empty(shape[0]))
        self._lengths: tuple[object, Tensor] | None = None

    def fill(self, weight: Weight, parts: dict[str, Tensor]) -> None:
        """As for any; the weight itself is asked for products later."""
        # No submodule: a quantized weight stays one of its projection alone.
        self.__dict__["_weight"] = weight
        lengths_O = row_lengths(weight)
        self._squares_O = lengths_O.square()
        super().fill(weight, {"magnitude": lengths_O, **parts})

    def forward(self, x: Tensor, y: Tensor, bias_O: Tensor | None) -> Tensor:
        """As for any projection, each output scaled to its row's magnitude."""
        changed = (widened(y) + self.product(x)) * self.gain()
        return (changed if bias_O is None else changed + bias_O).to(y.dtype)

    def gain(self) -> Tensor:
        """The magnitude over the length of each row, [O]; gradients reach the magnitude."""
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
        """The changed weight in float32."""
        return super().merged(weight) * self.gain()[:, None]

    def extra_repr(self) -> str:
        """See `LowRank`."""
        return f"{super().extra_repr()}, dora"


class OnExperts(LowRank):
    """Of all experts' weights [X, O, I], each with an A and a B of its own."""

    def forward(self, x: Tensor, y: Tensor, expert: int) -> Tensor:
        """An expert's product of x [t, I] from y = W x [t, O]."""
        return (widened(y) + self.product(x, expert)).to(y.dtype)


class OnRouter(LowRank):
    """Of a weight that is asked for whole."""

    def forward(self, weight_OI: Tensor) -> Tensor:
        """The changed weight, in float32."""
        return self.merged(weight_OI)


class OnEmbedding(LowRank):
    """Of an embedding [V, D]: the row of token v is w_v + scale (B A)_v, with B [V, K] and A [K, D]."""

    def begin(self, weight: Weight, generator: torch.Generator) -> None:
        """The tokens' side is zero at first and the other normal, as in the published adapters of embeddings."""
        values = torch.randn(self.down.shape, generator=generator)
        self.fill(weight, {"down": values, "up": torch.zeros(self.up.shape)})

    def forward(self, ids_T: Tensor, rows_TD: Tensor) -> Tensor:
        """The rows of `ids_T` from the embedding's own."""
        return (widened(rows_TD) + F.embedding(ids_T, self.up) @ self.down * self.scale).to(rows_TD.dtype)


def made(
    kind: type[LowRank], shape: tuple[int, ...], rank: int, scale: float, dropout: float, *, dora: bool
) -> LowRank:
    """An adapter of this kind; with DoRA where it is asked for (only projections can have it)."""
    return (OnLinearDora if dora and kind is OnLinear else kind)(tuple(shape), rank, scale, dropout)


def widest(dtype: torch.dtype) -> torch.dtype:
    """The dtype of A and B beside weights of `dtype`."""
    return torch.promote_types(dtype, torch.float32)


@torch.no_grad()
def row_lengths(weight: Weight) -> Tensor:
    """The length of each row of [O, I], in float32; a tile of rows at a time."""
    size = max(1, (1 << 22) // weight.shape[1])
    parts = [weight[begin : begin + size] for begin in range(0, weight.shape[0], size)]
    numbers = (p.dequantize(torch.float32) if isinstance(p, QuantizedWeight) else widened(p) for p in parts)
    return torch.cat([torch.linalg.vector_norm(tile, dim=-1) for tile in numbers])
