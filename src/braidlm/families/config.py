"""A checked view of a published config, and settings that families spell alike."""

from collections.abc import Mapping
from typing import Any

from ..errors import SpecError
from ..spec import FactorScaling, LinearScaling, Llama3Scaling, Rope, RopeScaling, is_finite

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
