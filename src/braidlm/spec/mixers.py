"""Specs of sequence mixers (see `protocols.MixerSpec`): sizes, state between tokens, FLOPs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ..system.settings import is_finite
from .checks import countable, finite, of_kind, positive, require
from .rope import Rope
from .state import FullKV, RecurrentState, SharedKV, StateSpec, WindowKV


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Causal softmax attention with grouped queries.

    `rope` None means no position encoding. A query sees the last `window` keys, itself included
    (None: all), and always the first `sink_tokens` positions. `kv_from` names an earlier block whose
    keys and values are used instead of own ones. `scale` None means 1/sqrt(head_dim).
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int | None = None
    rope: Rope | None = None
    window: int | None = None
    sink_tokens: int = 0
    kv_from: int | None = None
    scale: float | None = None
    qkv_bias: bool = False
    out_bias: bool = False

    def __post_init__(self) -> None:
        positive(self, "heads", "kv_heads", "head_dim")
        divides = self.heads % self.kv_heads == 0
        require(divides, "Attention.kv_heads", self.kv_heads, f"a divisor of heads ({self.heads})")
        if self.value_dim is not None:
            positive(self, "value_dim")
        if self.window is not None:
            positive(self, "window")
        countable(self, "sink_tokens")
        if self.sink_tokens:
            require(self.window is not None, "Attention.sink_tokens", self.sink_tokens, "zero where there is no window")
        if self.scale is not None:
            finite(self, "scale")
        of_kind(self, "rope", Rope, type(None))
        if self.rope is not None:
            fits = self.rope.dims <= self.head_dim
            require(fits, "Rope.dims", self.rope.dims, f"at most head_dim ({self.head_dim})")

    @property
    def v_dim(self) -> int:
        """Channels of one value head."""
        return self.value_dim if self.value_dim is not None else self.head_dim

    @property
    def inner(self) -> int:
        """Channels of all heads together, before the output projection."""
        return self.heads * self.v_dim

    def validate(self, width: int, where: str) -> None:
        """Requires nothing: the sizes are the layer's own."""

    def state_spec(self, width: int) -> tuple[StateSpec, ...]:
        """State: the KV cache of all positions or of a window, or a reference to another block's."""
        if self.kv_from is not None:
            return (SharedKV(layer=self.kv_from),)
        sizes = {"heads": self.kv_heads, "k_dim": self.head_dim, "v_dim": self.v_dim}
        if self.window is None:
            return (FullKV(**sizes),)
        return (WindowKV(**sizes, window=self.window, sink_tokens=self.sink_tokens),)

    def flops(self, width: int, length: int) -> float:
        """FLOPs of scores and weighted values over the keys that are seen."""
        most = length if self.window is None else min(length, self.window + self.sink_tokens)
        # The first `most` tokens see one key more each, all others see `most` keys.
        keys = most * (most + 1) / 2 + (length - most) * most
        return 2 * self.heads * (self.head_dim + self.v_dim) * keys


@dataclass(frozen=True, kw_only=True, slots=True)
class Mamba:
    """Mamba-1 layer: a selective state space with one decay per channel and state (Gu and Dao 2023).

    `inner_norms`: dt, B and C each pass a root-mean-square norm before use, with learned weights or, where
    `inner_norms_learned` is False, without; `inner_eps` is these norms' own eps (None: the model's).
    """

    inner: int
    d_state: int
    dt_rank: int
    conv: int = 4
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norms: bool = False
    inner_norms_learned: bool = True
    inner_eps: float | None = None

    def __post_init__(self) -> None:
        positive(self, "inner", "d_state", "dt_rank", "conv")
        if self.inner_eps is not None:
            finite(self, "inner_eps")
        plain = self.inner_norms or (self.inner_norms_learned and self.inner_eps is None)
        require(plain, "Mamba.inner_norms", False, "true where these norms are described further")
        require(self.conv >= 2, "Mamba.conv", self.conv, "at least 2 taps")

    def validate(self, width: int, where: str) -> None:
        """Requires nothing: the sizes are the layer's own."""

    def state_spec(self, width: int) -> tuple[StateSpec, ...]:
        """State: the convolution's tail [inner, conv-1] and the scan's state [inner, d_state]."""
        tail = RecurrentState(name="conv", shape=(self.inner, self.conv - 1), dtype="activation")
        return (tail, RecurrentState(name="ssm", shape=(self.inner, self.d_state), dtype="float32"))

    def flops(self, width: int, length: int) -> float:
        """FLOPs of the scan and the convolution."""
        return length * (6 * self.inner * self.d_state + 2 * self.inner * self.conv)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mamba2:
    """Mamba-2 layer, state-space duality: one decay per head, B and C shared by groups of heads (Dao and Gu 2024).

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
        positive(self, "heads", "head_dim", "d_state", "groups", "conv")
        require(self.conv >= 2, "Mamba2.conv", self.conv, "at least 2 taps")
        require(self.heads % self.groups == 0, "Mamba2.groups", self.groups, f"a divisor of heads ({self.heads})")
        ok = is_finite(self.dt_min) and self.dt_min >= 0
        require(ok, "Mamba2.dt_min", self.dt_min, "a finite number, zero or more")
        if self.dt_max is not None:
            finite(self, "dt_max")
            require(self.dt_max > self.dt_min, "Mamba2.dt_max", self.dt_max, f"above dt_min ({self.dt_min})")

    @property
    def inner(self) -> int:
        """Channels of x, of the gate and before the output projection."""
        return self.heads * self.head_dim

    @property
    def conv_width(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.inner + 2 * self.groups * self.d_state

    def validate(self, width: int, where: str) -> None:
        """Requires nothing: the sizes are the layer's own."""

    def state_spec(self, width: int) -> tuple[StateSpec, ...]:
        """State: the convolution's tail [conv_width, conv-1] and the scan's state [heads, head_dim, d_state]."""
        tail = RecurrentState(name="conv", shape=(self.conv_width, self.conv - 1), dtype="activation")
        return (tail, RecurrentState(name="ssm", shape=(self.heads, self.head_dim, self.d_state), dtype="float32"))

    def flops(self, width: int, length: int) -> float:
        """FLOPs of the scan and the convolution."""
        return length * (6 * self.inner * self.d_state + 2 * self.conv_width * self.conv)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hyena:
    """Hyena layer: a gated long convolution given by complex poles and residues.

    Source: Poli et al. 2023, Massaroli et al. 2023. `filters` distinct filters of `d_state` modes are shared by
    width / filters neighbouring channels each. `heads` not None: the projection's channels are laid out per head as
    [x2 | x1 | v] ("column split"); None: three contiguous thirds.
    """

    d_state: int
    filters: int
    conv: int = 3
    heads: int | None = None
    conv_bias: bool = True

    def __post_init__(self) -> None:
        positive(self, "d_state", "filters", "conv")
        require(self.conv >= 2, "Hyena.conv", self.conv, "at least 2 taps")
        if self.heads is not None:
            positive(self, "heads")

    def validate(self, width: int, where: str) -> None:
        """Requires filters and heads to share the channels evenly."""
        for name, parts in (("filters", self.filters), ("heads", self.heads)):
            divides = parts is None or width % parts == 0
            require(divides, f"{where} Hyena.{name}", parts, f"a divisor of width ({width})")

    def state_spec(self, width: int) -> tuple[StateSpec, ...]:
        """State: the short filter's tail [3 width, conv-1] and the modal state [width, d_state]."""
        tail = RecurrentState(name="conv", shape=(3 * width, self.conv - 1), dtype="activation")
        return (tail, RecurrentState(name="modes", shape=(width, self.d_state), dtype="complex64"))

    def flops(self, width: int, length: int) -> float:
        """FLOPs of the modal recurrence and the short filter."""
        return length * (12 * width * self.d_state + 6 * width * self.conv)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallel:
    """Attention and state-space heads on the same input, combined, projected once.

    `combine` "mean" norms both and averages them (Hymba: Dong et al. 2024, eq. 3); "sum" adds the normed state-space
    heads to the attention as it is, which they leave unchanged while the weights of their norm are zero.
    """

    attention: Attention
    ssm: Mamba | Mamba2
    combine: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        of_kind(self, "attention", Attention)
        of_kind(self, "ssm", Mamba, Mamba2)
        require(self.combine in ("mean", "sum"), "Parallel.combine", self.combine, '"mean" or "sum"')
        same = self.attention.inner == self.ssm.inner
        require(same, "Parallel.attention channels", self.attention.inner, f"those of ssm ({self.ssm.inner})")

    def validate(self, width: int, where: str) -> None:
        """Requires what both branches do."""
        self.attention.validate(width, where)
        self.ssm.validate(width, where)

    def state_spec(self, width: int) -> tuple[StateSpec, ...]:
        """State of both branches."""
        return self.attention.state_spec(width) + self.ssm.state_spec(width)

    def flops(self, width: int, length: int) -> float:
        """FLOPs of both branches."""
        return self.attention.flops(width, length) + self.ssm.flops(width, length)


# The table of mixers: every kind that a block may have. `layers` has their modules.
Mixer = Attention | Mamba | Mamba2 | Hyena | Parallel


def attention_of(mixer: Mixer) -> Attention | None:
    """The attention spec in a mixer, alone or as a branch; None without one."""
    if isinstance(mixer, Parallel):
        return mixer.attention
    return mixer if isinstance(mixer, Attention) else None


def parts_of(mixer: Mixer) -> tuple[Mixer, ...]:
    """The mixers that run side by side in a mixer; itself alone if it is not made of others."""
    return (mixer.attention, mixer.ssm) if isinstance(mixer, Parallel) else (mixer,)


def replace_attention(mixer: Mixer, change: Callable[[Attention], Attention]) -> Mixer:
    """The mixer with its attention changed, alone or as a branch; the mixer itself without one."""
    if isinstance(mixer, Parallel):
        return replace(mixer, attention=change(mixer.attention))
    return change(mixer) if isinstance(mixer, Attention) else mixer
