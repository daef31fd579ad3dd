"""What a family file is made of: a checked view of a config, and rules for tensor names.

A rule says which of their tensors are which of ours, in both directions, so that import and
export cannot drift apart. "{i}" in a name stands for a block's number. A rule whose parameters
the model does not have at some block is not used there, so one table serves mixed blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..errors import SpecError
from ..spec import (
    Attention,
    FactorScaling,
    Hyena,
    LinearScaling,
    Llama3Scaling,
    Mamba,
    Mamba2,
    Mlp,
    ModelSpec,
    Parallel,
    Rope,
    RopeScaling,
    is_finite,
)

MAX_LAYERS = 10_000

# Keys that transformers writes into every config and that say nothing about the computation.
COMMON_IGNORED = frozenset(
    """_name_or_path architectures auto_map model_type torch_dtype dtype transformers_version use_cache
    bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id unk_token_id
    attn_implementation _attn_implementation _attn_implementation_autoset
    _attn_implementation_internal attention_dropout hidden_dropout initializer_range
    output_attentions output_hidden_states return_dict chunk_size_feed_forward id2label label2id
    problem_type is_encoder_decoder task_specific_params pretraining_tp""".split()
)


class Config:
    """A checkpoint's config.json: typed access that names key, value and what would be right."""

    def __init__(self, data: Mapping[str, Any], family: str) -> None:
        self._data = data
        self._family = family
        self._read: set[str] = set()

    def _value(self, key: str, default: Any) -> Any:
        self._read.add(key)
        value = self._data.get(key)
        if value is None and default is ...:
            raise SpecError(f"the config of this {self._family} model lacks {key!r}")
        return default if value is None else value

    def _fail(self, key: str, value: Any, right: str) -> SpecError:
        return SpecError(f"config {key!r} is {value!r}, but must be {right}")

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def integer(self, key: str, default: Any = ..., *, least: int = 1, most: int = 2**31) -> Any:
        """A whole number in [least, most]; `default` (which may be None) where the key is absent or null."""
        value = self._value(key, default)
        if value is default and default is not ...:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._fail(key, value, f"a whole number from {least} to {most}")
        return value

    def layers(self, key: str) -> int:
        """The number of blocks."""
        return self.integer(key, most=MAX_LAYERS)

    def number(self, key: str, default: Any = ...) -> Any:
        """A finite number."""
        value = self._value(key, default)
        if value is default and default is not ...:
            return default
        if not is_finite(value):
            raise self._fail(key, value, "a finite number")
        return float(value)

    def positive(self, key: str, default: Any = ...) -> float:
        """A finite number above zero."""
        value = self.number(key, default)
        if value <= 0:
            raise self._fail(key, value, "above zero")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._fail(key, value, "true or false")
        return value

    def choice(self, key: str, options: Mapping[Any, Any], default: Any = ...) -> Any:
        """The entry of `options` that the value names."""
        value = self._value(key, default)
        if not isinstance(value, (str, int, float, bool)) or value not in options:
            raise self._fail(key, value, "one of " + ", ".join(repr(option) for option in options))
        return options[value]

    def integers(self, key: str, default: Any = ..., *, least: int = 0, most: int = 2**31) -> tuple[int, ...]:
        """A list of whole numbers in [least, most]."""
        value = self._value(key, default)
        ok = isinstance(value, (list, tuple)) and all(
            isinstance(item, int) and not isinstance(item, bool) and least <= item <= most for item in value
        )
        if not ok:
            raise self._fail(key, value, f"a list of whole numbers from {least} to {most}")
        return tuple(value)

    def raw(self, key: str, default: Any = None) -> Any:
        """The value as it stands."""
        return self._value(key, default)

    def fixed(self, key: str, allowed: Any, why: str) -> None:
        """Refuses any value but `allowed` (or none): `why` says what braidlm does not compute."""
        value = self._value(key, allowed)
        if value != allowed:
            raise SpecError(f"config {key!r} is {value!r}, but braidlm supports only {allowed!r}: {why}")

    def finish(self, ignored: frozenset[str]) -> None:
        """Refuses keys that nothing read: one of them might change the computation."""
        known = self._read | ignored | COMMON_IGNORED
        for key, value in self._data.items():
            if key not in known and value not in (None, False):
                raise SpecError(
                    f"config {key!r} (= {value!r}) is not known for {self._family} models; "
                    "loading without understanding it could give wrong results"
                )


def attending_blocks(kinds: Any, layers: int) -> set[int]:
    """Which of `layers` blocks a "layer_types" list says attend, in either spelling; the others are Mamba-2."""
    attending = ("attention", "full_attention")
    known = isinstance(kinds, list) and all(kind in (*attending, "mamba", "linear_attention") for kind in kinds)
    if not known or len(kinds) != layers:
        raise SpecError(f"config 'layer_types' is {kinds!r}, but must list {layers} times 'mamba' or 'attention'")
    return {i for i, kind in enumerate(kinds) if kind in attending}


def read_rope(config: Config, dims: int, default_base: float = 10000.0) -> Rope:
    """Rotary settings in either published spelling: rope_theta and rope_scaling, or rope_parameters."""
    both = config.raw("rope_parameters") or {}
    scaling = config.raw("rope_scaling") or both
    base = config.number("rope_theta", None) or both.get("rope_theta", default_base)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    try:
        return Rope(base=float(base), dims=dims, scaling=_scaling(kind, scaling))
    except KeyError as missing:
        raise SpecError(f"config 'rope_scaling' of type {kind!r} lacks {missing}") from None


def _scaling(kind: str, values: Mapping[str, Any]) -> RopeScaling | None:
    if kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(factor=float(values["factor"]))
    if kind == "factors":  # only from GGUF metadata
        return FactorScaling(factors=tuple(float(factor) for factor in values["factors"]))
    if kind == "llama3":
        return Llama3Scaling(
            factor=float(values["factor"]),
            low_freq_factor=float(values["low_freq_factor"]),
            high_freq_factor=float(values["high_freq_factor"]),
            original_positions=int(values["original_max_position_embeddings"]),
        )
    raise SpecError(f"config 'rope_scaling' is of type {kind!r}, but must be default, linear or llama3")


def write_rope(rope: Rope | None) -> dict[str, Any]:
    """The keys rope_theta and rope_scaling for `rope`."""
    if rope is None:
        return {"rope_scaling": None}
    keys: dict[str, Any] = {"rope_theta": rope.base, "rope_scaling": None}
    if isinstance(rope.scaling, FactorScaling):
        raise SpecError("published configs cannot say rotary factors for each frequency")
    match rope.scaling:
        case LinearScaling(factor=factor):
            keys["rope_scaling"] = {"rope_type": "linear", "factor": factor}
        case Llama3Scaling() as llama3:
            keys["rope_scaling"] = {
                "rope_type": "llama3",
                "factor": llama3.factor,
                "low_freq_factor": llama3.low_freq_factor,
                "high_freq_factor": llama3.high_freq_factor,
                "original_max_position_embeddings": llama3.original_positions,
            }
    return keys


Mixer = TypeVar("Mixer", Attention, Hyena, Mamba, Mamba2, Parallel)


def first_mixer(spec: ModelSpec, kind: type[Mixer]) -> Mixer:
    """The first mixer of a kind; `SpecError` if there is none."""
    for block in spec.blocks:
        if isinstance(block.mixer, kind):
            return block.mixer
    raise SpecError(f"there is no {kind.__name__} block")


def first_mlp(spec: ModelSpec) -> Mlp:
    """The first block's feed-forward; `SpecError` if it is not a plain gated one."""
    ffn = spec.blocks[0].ffn
    if not isinstance(ffn, Mlp):
        raise SpecError("the blocks must have a gated feed-forward each")
    return ffn


Read = Callable[[Sequence[Tensor], Sequence[torch.Size]], Sequence[Tensor]]
Write = Callable[[Sequence[Tensor]], Sequence[Tensor]]


@dataclass(frozen=True)
class Rule:
    """`theirs` hold `ours`; `read` and `write` convert the tensors of one side to those of the other.

    `read` also gets the shapes of ours, so that it can cut and reshape; what it cannot make fit
    it returns as it is, and the shape check that follows names the tensor.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    read: Read
    write: Write


@dataclass(frozen=True)
class Alias:
    """A tensor of theirs that repeats ours: may be absent, must be equal, written only if `written`."""

    theirs: str
    ours: str
    written: bool = False


@dataclass(frozen=True)
class Drop:
    """A tensor of theirs that holds nothing needed: a saved buffer."""

    theirs: str


NameRule = Rule | Alias | Drop


def rename(theirs: str, ours: str) -> Rule:
    """The same values under another name."""
    return Rule((theirs,), (ours,), lambda tensors, _: tensors, lambda parts: parts)


def mapped(theirs: str, ours: str, read: Callable[[Tensor], Tensor], write: Callable[[Tensor], Tensor]) -> Rule:
    """Values converted by `read`, and back by `write`."""
    return Rule((theirs,), (ours,), lambda tensors, _: [read(tensors[0])], lambda parts: [write(parts[0])])


def reshape(theirs: str, ours: str, *shape: int) -> Rule:
    """The same values; theirs has `shape`, in which 0 keeps our size at that place and -1 takes the rest."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> Sequence[Tensor]:
        tensor = tensors[0]
        return [tensor.reshape(shapes[0]) if tensor.numel() == shapes[0].numel() else tensor]

    def write(parts: Sequence[Tensor]) -> Sequence[Tensor]:
        return [parts[0].reshape([parts[0].shape[i] if size == 0 else size for i, size in enumerate(shape)])]

    return Rule((theirs,), (ours,), read, write)


def split(theirs: str, *ours: str) -> Rule:
    """Theirs is ours stacked by rows, in this order; reading gives views."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> Sequence[Tensor]:
        rows = [shape[0] for shape in shapes]
        fits = tensors[0].dim() > 0 and sum(rows) == tensors[0].shape[0]
        return tensors[0].split(rows) if fits else [tensors[0]] * len(rows)

    return Rule((theirs,), ours, read, lambda parts: [torch.cat(list(parts))])


def joined(first: str, second: str, ours: str, *, dim: int) -> Rule:
    """Ours is two equal tensors of theirs side by side along `dim`."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> Sequence[Tensor]:
        return [torch.cat(list(tensors), dim)]

    return Rule((first, second), (ours,), read, lambda parts: parts[0].chunk(2, dim))


def paired_rows(theirs: str, ours: str, heads: int) -> Rule:
    """Query or key rows whose rotated pairs lie side by side in theirs and half a head apart in ours."""

    def read(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0 or tensor.shape[0] % (2 * heads):
            return tensor
        return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)

    def write(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)

    return mapped(theirs, ours, read, write)


def outer_names(spec: ModelSpec, norm: str) -> list[NameRule]:
    """Embedding, final norm (called `norm`) and head, as most transformers models name them."""
    rules: list[NameRule] = [rename("model.embed_tokens.weight", "embed.weight"), rename(norm, "norm.weight")]
    head = "lm_head.weight"
    return [*rules, Alias(head, "embed.weight") if spec.tied else rename(head, "head.weight")]


def attention_names(theirs: str, ours: str) -> list[NameRule]:
    """The four projections, weights and biases."""
    parts = [f"{part}_proj.{kind}" for part in "qkvo" for kind in ("weight", "bias")]
    return [rename(f"{theirs}.{part}", f"{ours}.{part}") for part in parts]


def gated_mlp_names(theirs: str, ours: str) -> list[NameRule]:
    """The three projections, weights and biases."""
    parts = [f"{part}_proj.{kind}" for part in ("gate", "up", "down") for kind in ("weight", "bias")]
    return [rename(f"{theirs}.{part}", f"{ours}.{part}") for part in parts]


def gguf_outer_names(spec: ModelSpec) -> list[NameRule]:
    """Embedding, norms of mixers, final norm and head in every GGUF file."""
    return [
        rename("token_embd.weight", "embed.weight"),
        rename("output_norm.weight", "norm.weight"),
        Alias("output.weight", "embed.weight") if spec.tied else rename("output.weight", "head.weight"),
        rename("blk.{i}.attn_norm.weight", "blocks.{i}.mixer_norm.weight"),
    ]


def gguf_outer_metadata(spec: ModelSpec) -> dict[str, Any]:
    """Sizes that every GGUF file gives; a length where none is declared is the converters' 2^20."""
    return {
        "vocab_size": spec.vocab,
        "embedding_length": spec.width,
        "block_count": len(spec.blocks),
        "context_length": spec.max_positions or 1 << 20,
        "attention.layer_norm_rms_epsilon": spec.norm.eps,
    }


class TensorTable(Protocol):
    """Named tensors of a file, whose shapes are known without reading them."""

    shapes: dict[str, tuple[int, ...]]

    def get(self, name: str) -> Tensor:
        """One tensor."""
        ...


@dataclass(frozen=True, kw_only=True)
class Gguf:
    """How a family is stored in GGUF files of one architecture.

    `config` turns the file's metadata (its keys without the architecture's prefix) and what its
    tensors tell into the published config; `names` are rules for GGUF tensor names. `metadata` is the
    way back: the keys for a description; `tensors` are those that hold a part of it.
    """

    arch: str
    config: Callable[[Mapping[str, Any], TensorTable], dict[str, Any]]
    names: Callable[[ModelSpec], Sequence[NameRule]]
    metadata: Callable[[ModelSpec], dict[str, Any]]
    tensors: Callable[[ModelSpec], dict[str, Tensor]] = lambda spec: {}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One published format: config keys and tensor names, to our description and back.

    `ignored` are config keys that do not matter here; `matches` recognises configs without a
    model_type; tensor names may lack `optional_prefix`.
    """

    name: str
    model_types: tuple[str, ...]
    spec: Callable[[Config], ModelSpec]
    config: Callable[[ModelSpec], dict[str, Any]]
    names: Callable[[ModelSpec], Sequence[NameRule]]
    ignored: frozenset[str] = frozenset()
    matches: Callable[[Mapping[str, Any]], bool] | None = None
    weights_file: str = "model.safetensors"
    optional_prefix: str = ""
    gguf: Gguf | None = field(default=None)

    def accepts(self, config: Mapping[str, Any]) -> bool:
        """Whether `config` is of this format."""
        if self.matches is not None:
            return self.matches(config)
        return config.get("model_type") in self.model_types

    def read(self, config: Mapping[str, Any]) -> ModelSpec:
        """The description of a published config, every key of which was understood or is known not to matter."""
        view = Config(config, self.name)
        try:
            spec = self.spec(view)
        except SpecError:
            raise
        except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError, IndexError) as error:
            # A value of a kind that no published config has: a list where a table belongs, say.
            raise SpecError(f"the config of this {self.name} model has a value of the wrong kind: {error}") from None
        view.finish(self.ignored)
        return spec

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        """The published config of `spec`; `SpecError` if this format cannot express it."""
        try:
            config = self.config(spec)
            again = self.read(config)
        except SpecError as error:
            raise SpecError(f"this model cannot be written as {self.name}: {error}; save it as braidlm") from None
        if again != spec:
            raise SpecError(
                f"this model cannot be written as {self.name}: {_difference(again, spec)}; save it as braidlm"
            )
        return config


def _difference(expressed: ModelSpec, wanted: ModelSpec) -> str:
    for index, (theirs, ours) in enumerate(zip(expressed.blocks, wanted.blocks, strict=False)):
        if theirs != ours:
            return f"it has no way to say that block {index} is {ours}"
    return "it has no way to say its embedding, norm or head settings"
