"""A model as data: one frozen description for every family.

A `ModelSpec` is a tuple of `Block`s; a block is one sequence mixer and at most one feed-forward.
Nothing here knows torch, a checkpoint or a family. Sizes are validated when a description is
made, and each message names the field, its value and what would be right.

Legend: width = model dimension; "heads" are query heads; a window counts visible keys
including the query itself.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .errors import SpecError
from .slots import ITEM_BYTES, Fixed, Growing, Ring, Shared, Slot
from .spec_json import decode, encode

Activation = Literal["silu", "gelu"]


def require(ok: bool, what: str, value: Any, right: str) -> None:
    """Raises `SpecError` naming the field `what`, its `value` and what would be `right`."""
    if not ok:
        raise SpecError(f"{what} is {value!r}, but must be {right}")


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether `value` is a number that a float can hold."""
    return (is_whole(value) and abs(value) < 2**1000) or (isinstance(value, float) and math.isfinite(value))


def _positive(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(is_whole(value) and value > 0, f"{type(owner).__name__}.{name}", value, "a positive whole number")


def _countable(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(is_whole(value) and value >= 0, f"{type(owner).__name__}.{name}", value, "a whole number, zero or more")


def _finite(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(is_finite(value) and value > 0, f"{type(owner).__name__}.{name}", value, "a positive finite number")


def _kind(owner: Any, name: str, *kinds: type) -> None:
    value = getattr(owner, name)
    names = " or ".join("none" if kind is type(None) else kind.__name__ for kind in kinds)
    require(isinstance(value, kinds), f"{type(owner).__name__}.{name}", value, f"of kind {names}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Norm:
    """Root-mean-square norm: g * x / sqrt(mean(x^2) + eps), or g * x / (sqrt(mean(x^2)) + eps)."""

    eps: float
    eps_outside_root: bool = False

    def __post_init__(self) -> None:
        _finite(self, "eps")


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearScaling:
    """Positions divided by `factor` (position interpolation, Chen et al. 2023)."""

    factor: float

    def __post_init__(self) -> None:
        _finite(self, "factor")


@dataclass(frozen=True, kw_only=True, slots=True)
class NtkScaling:
    """Base raised to base * factor^(d / (d - 2)) for d rotated dimensions, at every length."""

    factor: float

    def __post_init__(self) -> None:
        _finite(self, "factor")


@dataclass(frozen=True, kw_only=True, slots=True)
class Llama3Scaling:
    """Long wavelengths divided by `factor`, short ones kept, a ramp between (Llama 3.1)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int

    def __post_init__(self) -> None:
        _finite(self, "factor", "low_freq_factor", "high_freq_factor")
        _positive(self, "original_positions")
        ok = self.high_freq_factor > self.low_freq_factor
        require(ok, "Llama3Scaling.high_freq_factor", self.high_freq_factor, "above low_freq_factor")


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorScaling:
    """Each pair's frequency divided by a factor of its own (as GGUF files store Llama 3's scaling)."""

    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        ok = isinstance(self.factors, tuple) and all(is_finite(factor) and factor > 0 for factor in self.factors)
        require(ok, "FactorScaling.factors", self.factors, "a tuple of positive finite numbers")


RopeScaling = LinearScaling | NtkScaling | Llama3Scaling | FactorScaling


@dataclass(frozen=True, kw_only=True, slots=True)
class Rope:
    """Half-split rotary positions on the first `dims` dimensions of each head (Su et al. 2021)."""

    base: float
    dims: int
    scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        _finite(self, "base")
        _positive(self, "dims")
        require(self.dims % 2 == 0, "Rope.dims", self.dims, "even")
        if isinstance(self.scaling, NtkScaling):
            require(self.dims > 2, "Rope.dims", self.dims, "above 2 for NTK scaling")
        if isinstance(self.scaling, FactorScaling):
            pairs = len(self.scaling.factors)
            require(2 * pairs == self.dims, "Rope.dims", self.dims, f"twice the number of factors ({pairs})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Causal softmax attention with grouped queries.

    `rope` None means no position encoding. A query sees the last `window` keys, itself included
    (None: all), and always the first `pinned` positions. `kv_from` names an earlier block whose
    keys and values are used instead of own ones. `scale` None means 1/sqrt(head_dim).
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    rope: Rope | None = None
    window: int | None = None
    pinned: int = 0
    kv_from: int | None = None
    scale: float | None = None
    qkv_bias: bool = False
    out_bias: bool = False

    def __post_init__(self) -> None:
        _positive(self, "heads", "kv_heads", "head_dim")
        divides = self.heads % self.kv_heads == 0
        require(divides, "Attention.kv_heads", self.kv_heads, f"a divisor of heads ({self.heads})")
        if self.value_dim is not None:
            _positive(self, "value_dim")
        if self.window is not None:
            _positive(self, "window")
        _countable(self, "pinned")
        if self.pinned:
            require(self.window is not None, "Attention.pinned", self.pinned, "zero where there is no window")
        if self.scale is not None:
            _finite(self, "scale")
        _kind(self, "rope", Rope, type(None))
        if self.rope is not None:
            fits = self.rope.dims <= self.head_dim
            require(fits, "Rope.dims", self.rope.dims, f"at most head_dim ({self.head_dim})")

    @property
    def v_dim(self) -> int:
        """Size of one value head."""
        return self.value_dim if self.value_dim is not None else self.head_dim

    @property
    def inner(self) -> int:
        """Channels before the output projection."""
        return self.heads * self.v_dim

    def slots(self) -> tuple[Slot, ...]:
        """Keys and values: all, a window of them, or another layer's."""
        if self.kv_from is not None:
            return (Shared(layer=self.kv_from),)
        sizes = {"heads": self.kv_heads, "k_dim": self.head_dim, "v_dim": self.v_dim}
        if self.window is None:
            return (Growing(**sizes),)
        return (Ring(**sizes, window=self.window, pinned=self.pinned),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mamba:
    """Selective state space with one decay per channel and state (Gu and Dao 2023).

    `inner_norms`: dt, B and C each pass a root-mean-square norm before use.
    """

    inner: int
    d_state: int
    dt_rank: int
    conv: int = 4
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norms: bool = False

    def __post_init__(self) -> None:
        _positive(self, "inner", "d_state", "dt_rank", "conv")
        require(self.conv >= 2, "Mamba.conv", self.conv, "at least 2 taps")

    def slots(self) -> tuple[Slot, ...]:
        """The convolution's tail [inner, conv-1] and the scan's state [inner, d_state]."""
        tail = Fixed(name="conv", shape=(self.inner, self.conv - 1), dtype="activation")
        return (tail, Fixed(name="ssm", shape=(self.inner, self.d_state), dtype="float32"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mamba2:
    """State-space duality: one decay per head, B and C shared by groups of heads (Dao and Gu 2024).

    Δ is clamped to [dt_min, dt_max] (None: no upper limit) after the softplus.
    """

    heads: int
    head_dim: int
    d_state: int
    groups: int = 1
    conv: int = 4
    conv_bias: bool = True
    proj_bias: bool = False
    dt_min: float = 0.0
    dt_max: float | None = None

    def __post_init__(self) -> None:
        _positive(self, "heads", "head_dim", "d_state", "groups", "conv")
        require(self.conv >= 2, "Mamba2.conv", self.conv, "at least 2 taps")
        require(self.heads % self.groups == 0, "Mamba2.groups", self.groups, f"a divisor of heads ({self.heads})")
        ok = is_finite(self.dt_min) and self.dt_min >= 0
        require(ok, "Mamba2.dt_min", self.dt_min, "a finite number, zero or more")
        if self.dt_max is not None:
            _finite(self, "dt_max")
            require(self.dt_max > self.dt_min, "Mamba2.dt_max", self.dt_max, f"above dt_min ({self.dt_min})")

    @property
    def inner(self) -> int:
        """Channels of x, of the gate and before the output projection."""
        return self.heads * self.head_dim

    @property
    def conv_width(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.inner + 2 * self.groups * self.d_state

    def slots(self) -> tuple[Slot, ...]:
        """The convolution's tail [x B C, conv-1] and the state [heads, head_dim, d_state]."""
        tail = Fixed(name="conv", shape=(self.conv_width, self.conv - 1), dtype="activation")
        return (tail, Fixed(name="ssm", shape=(self.heads, self.head_dim, self.d_state), dtype="float32"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hyena:
    """Gated long convolution given by complex poles and residues (Poli et al. 2023, Massaroli et al. 2023).

    `filters` distinct filters of `d_state` modes are shared by width / filters neighbouring
    channels each. `heads` not None: the projection's channels are laid out per head as
    [x2 | x1 | v] ("column split"); None: three contiguous thirds.
    """

    d_state: int
    filters: int
    conv: int = 3
    heads: int | None = None
    conv_bias: bool = True

    def __post_init__(self) -> None:
        _positive(self, "d_state", "filters", "conv")
        require(self.conv >= 2, "Hyena.conv", self.conv, "at least 2 taps")
        if self.heads is not None:
            _positive(self, "heads")

    def slots(self, width: int) -> tuple[Slot, ...]:
        """The short filter's tail [3 width, conv-1] and the modal state [width, d_state]."""
        tail = Fixed(name="conv", shape=(3 * width, self.conv - 1), dtype="activation")
        return (tail, Fixed(name="modes", shape=(width, self.d_state), dtype="complex64"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallel:
    """Attention and state-space heads on the same input, normed, averaged, projected once (Hymba)."""

    attention: Attention
    ssm: Mamba | Mamba2

    def __post_init__(self) -> None:
        _kind(self, "attention", Attention)
        _kind(self, "ssm", Mamba, Mamba2)
        same = self.attention.inner == self.ssm.inner
        require(same, "Parallel.attention channels", self.attention.inner, f"those of ssm ({self.ssm.inner})")

    def slots(self) -> tuple[Slot, ...]:
        """The slots of both branches."""
        return self.attention.slots() + self.ssm.slots()


Mixer = Attention | Mamba | Mamba2 | Hyena | Parallel


@dataclass(frozen=True, kw_only=True, slots=True)
class Mlp:
    """Gated feed-forward: down(act(gate x) * up x)."""

    hidden: int
    activation: Activation = "silu"
    bias: bool = False

    def __post_init__(self) -> None:
        _positive(self, "hidden")
        ok = self.activation in ("silu", "gelu")
        require(ok, "Mlp.activation", self.activation, "'silu' or 'gelu'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Moe:
    """Mixture of gated feed-forwards: the `top_k` largest router logits, softmax over those alone.

    `shared` is an expert of its own that sees every token with weight 1.
    """

    experts: int
    top_k: int
    hidden: int
    shared: Mlp | None = None

    def __post_init__(self) -> None:
        _positive(self, "experts", "top_k", "hidden")
        require(self.top_k <= self.experts, "Moe.top_k", self.top_k, f"at most experts ({self.experts})")
        _kind(self, "shared", Mlp, type(None))


FeedForward = Mlp | Moe


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """x + r mixer(norm(x)), then x + r ffn(norm(x)) if there is a feed-forward."""

    mixer: Mixer
    ffn: FeedForward | None = None
    residual_scale: float = 1.0

    def __post_init__(self) -> None:
        _finite(self, "residual_scale")
        _kind(self, "mixer", Attention, Mamba, Mamba2, Hyena, Parallel)
        _kind(self, "ffn", Mlp, Moe, type(None))

    def slots(self, width: int) -> tuple[Slot, ...]:
        """What the block must remember between tokens."""
        return self.mixer.slots(width) if isinstance(self.mixer, Hyena) else self.mixer.slots()


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A whole language model.

    `prefix_tokens` learned vectors stand before every sequence and are counted in positions.
    Logits are multiplied by `logit_scale`. `max_positions` is the number of user tokens that
    the model declares it was made for (None: no limit).
    """

    vocab: int
    width: int
    blocks: tuple[Block, ...]
    norm: Norm
    tied: bool = False
    embed_scale: float = 1.0
    logit_scale: float = 1.0
    prefix_tokens: int = 0
    max_positions: int | None = None
    _slots: tuple[tuple[Slot, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _positive(self, "vocab", "width")
        _finite(self, "embed_scale", "logit_scale")
        blocks = isinstance(self.blocks, tuple) and all(isinstance(block, Block) for block in self.blocks)
        require(blocks and len(self.blocks) > 0, "ModelSpec.blocks", self.blocks, "a tuple of at least one block")
        _kind(self, "norm", Norm)
        _countable(self, "prefix_tokens")
        if self.max_positions is not None:
            _positive(self, "max_positions")
        for index, block in enumerate(self.blocks):
            self._validate_mixer(index, block.mixer)
        object.__setattr__(self, "_slots", tuple(block.slots(self.width) for block in self.blocks))

    def _validate_mixer(self, index: int, mixer: Mixer) -> None:
        where = f"blocks[{index}]"
        if isinstance(mixer, Hyena):
            divides = self.width % mixer.filters == 0
            require(divides, f"{where} Hyena.filters", mixer.filters, f"a divisor of width ({self.width})")
            if mixer.heads is not None:
                divides = self.width % mixer.heads == 0
                require(divides, f"{where} Hyena.heads", mixer.heads, f"a divisor of width ({self.width})")
        attention = attention_of(mixer)
        if attention is None or attention.kv_from is None:
            return
        owner_index = attention.kv_from
        earlier = is_whole(owner_index) and 0 <= owner_index < index
        require(earlier, f"{where} Attention.kv_from", owner_index, "the index of an earlier block")
        owner = attention_of(self.blocks[owner_index].mixer)
        owns = owner is not None and owner.kv_from is None
        require(owns, f"{where} Attention.kv_from", owner_index, "a block with keys and values of its own")
        assert owner is not None
        shape = (owner.kv_heads, owner.head_dim, owner.v_dim)
        same = shape == (attention.kv_heads, attention.head_dim, attention.v_dim)
        require(same, f"{where} Attention.kv_from", owner_index, "a block with the same key and value heads")
        if owner.window is not None:
            covers = attention.window is not None and attention.window <= owner.window
            require(covers, f"{where} Attention.window", attention.window, f"within its owner's ({owner.window})")
            covers = attention.pinned <= owner.pinned
            require(covers, f"{where} Attention.pinned", attention.pinned, f"within its owner's ({owner.pinned})")

    @property
    def slots(self) -> tuple[tuple[Slot, ...], ...]:
        """The state slots of every block, in block order."""
        return self._slots

    def state_bytes(self, length: int, *, dtype: str = "float32", kv_dtype: str | None = None) -> int:
        """Bytes of one sequence's state after `length` user tokens, learned prefix included."""
        total = self.prefix_tokens + length
        require(dtype in ("float64", "float32", "bfloat16", "float16"), "dtype", dtype, "float32 or bfloat16")
        kv = kv_dtype or dtype
        require(kv in ITEM_BYTES and kv != "complex64", "kv_dtype", kv, "float32, bfloat16, float16, fp8 or int8")
        return sum(slot.nbytes(total, dtype, kv) for slots in self._slots for slot in slots)

    def replace_block(self, index: int, **changes: Any) -> "ModelSpec":
        """A copy in which block `index` has the given fields (mixer, ffn, residual_scale) replaced."""
        ok = -len(self.blocks) <= index < len(self.blocks)
        require(ok, "block index", index, f"from 0 to {len(self.blocks) - 1}")
        try:
            changed = replace(self.blocks[index], **changes)
        except TypeError:
            raise SpecError(f"a block has mixer, ffn and residual_scale, not {', '.join(changes)}") from None
        blocks = list(self.blocks)
        blocks[index] = changed
        return replace(self, blocks=tuple(blocks))

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for `json.dump`; read back by `from_json`."""
        return encode(self)

    @classmethod
    def from_json(cls, data: Any) -> "ModelSpec":
        """The description that `to_json` wrote; `SpecError` names what is wrong with any other data."""
        return decode(cls, data, "spec")


def attention_of(mixer: Mixer) -> Attention | None:
    """The attention in a mixer, alone or as a branch."""
    if isinstance(mixer, Parallel):
        return mixer.attention
    return mixer if isinstance(mixer, Attention) else None


def mixer_kinds(blocks: Iterable[Block]) -> dict[str, int]:
    """How many blocks use each kind of mixer, in order of first use."""
    counts: dict[str, int] = {}
    for block in blocks:
        name = type(block.mixer).__name__
        counts[name] = counts.get(name, 0) + 1
    return counts
