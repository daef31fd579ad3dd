"""Spec of a whole model: blocks of one mixer and at most one feed-forward layer each."""

from dataclasses import dataclass, field, replace
from typing import Any, get_args

from ..errors import SpecError
from ..system.settings import is_whole
from ..system.units import aligned
from .checks import countable, finite, of_kind, positive, require
from .feed_forward import FeedForward
from .json import decode, encode
from .lines import lines
from .mixers import Attention, Mixer, attention_of
from .protocols import MixerSpec
from .state import ITEM_BYTES, StateSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Norm:
    """Root-mean-square norm: g * x / sqrt(mean(x^2) + eps), or g * x / (sqrt(mean(x^2)) + eps)."""

    eps: float
    eps_outside_root: bool = False

    def __post_init__(self) -> None:
        finite(self, "eps")


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Spec of a block: x + r mixer(norm(x)), then x + r ffn(norm(x)) if it has a feed-forward layer."""

    mixer: Mixer
    ffn: FeedForward | None = None
    residual_scale: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "residual_scale")
        of_kind(self, "mixer", *get_args(Mixer))
        of_kind(self, "ffn", *get_args(FeedForward), type(None))

    def state_spec(self, width: int) -> tuple[StateSpec, ...]:
        """State that the block carries between tokens, for a model of `width`."""
        return self.mixer.state_spec(width)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Spec of a whole language model.

    `meta_tokens` learned vectors stand before every sequence and are counted in positions.
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
    meta_tokens: int = 0
    max_positions: int | None = None
    _state_specs: tuple[tuple[StateSpec, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positive(self, "vocab", "width")
        finite(self, "embed_scale", "logit_scale")
        blocks = isinstance(self.blocks, tuple) and all(isinstance(block, Block) for block in self.blocks)
        require(blocks and len(self.blocks) > 0, "ModelSpec.blocks", self.blocks, "a tuple of at least one block")
        of_kind(self, "norm", Norm)
        countable(self, "meta_tokens")
        if self.max_positions is not None:
            positive(self, "max_positions")
        for index, block in enumerate(self.blocks):
            mixer: MixerSpec = block.mixer
            mixer.validate(self.width, f"blocks[{index}]")
            self._validate_shared_kv(index, attention_of(block.mixer))
        object.__setattr__(self, "_state_specs", tuple(block.state_spec(self.width) for block in self.blocks))

    def __repr__(self) -> str:
        """Summary as `braid info` shows it; `to_json` has every field."""
        return aligned("ModelSpec", lines(self))

    def _validate_shared_kv(self, index: int, attention: Attention | None) -> None:
        where = f"blocks[{index}]"
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
            covers = attention.sink_tokens <= owner.sink_tokens
            require(
                covers,
                f"{where} Attention.sink_tokens",
                attention.sink_tokens,
                f"within its owner's ({owner.sink_tokens})",
            )

    @property
    def state_specs(self) -> tuple[tuple[StateSpec, ...], ...]:
        """State that every block carries between tokens, in block order."""
        return self._state_specs

    def state_bytes(self, length: int, *, dtype: str = "float32", kv_dtype: str | None = None) -> int:
        """Bytes of one sequence's state after `length` user tokens, meta tokens included."""
        total = self.meta_tokens + length
        require(dtype in ("float64", "float32", "bfloat16", "float16"), "dtype", dtype, "float32 or bfloat16")
        kv = kv_dtype or dtype
        require(kv in ITEM_BYTES and kv != "complex64", "kv_dtype", kv, "float32, bfloat16, float16, fp8 or int8")
        return sum(state.nbytes(total, dtype, kv) for states in self._state_specs for state in states)

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
        """The spec as plain dictionaries and lists, ready for `json.dump`; read back by `from_json`."""
        return encode(self)

    @classmethod
    def from_json(cls, data: Any) -> "ModelSpec":
        """The description that `to_json` wrote; `SpecError` names what is wrong with any other data."""
        return decode(cls, data, "spec")
