"""Rotary settings of published configs, in either spelling, read to a `Rope` and written back.

transformers 4 wrote `rope_theta` and `rope_scaling`, transformers 5 writes `rope_parameters`. Where a config has both
and they disagree, what transformers takes is taken, and said: `rope_scaling` before `rope_parameters`, and within them
their own `rope_theta` before that of the config.
"""

import math
from typing import Any

from ..errors import SpecError
from ..spec import (
    DynamicNtkScaling,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    Rope,
    RopeScaling,
    YarnScaling,
)
from .config import Config

_KINDS = {kind: kind for kind in ("default", "linear", "dynamic", "yarn", "llama3")}
_ORIGINAL = "original_max_position_embeddings"


def read_rope(config: Config, dims: int, default_base: float = 10000.0, *, share: float = 1.0) -> Rope:
    """Reads rotary settings for `dims` dimensions of each head; `share` is the part of the head that this is."""
    settings = rope_settings(config)
    factors = config.raw("rope_factors")  # only from GGUF metadata
    base = _either(config, settings, "rope_theta", default_base)
    said = _either(config, settings, "partial_rotary_factor", share)
    if said != share:
        raise SpecError(f"config 'partial_rotary_factor' is {said!r}, but braidlm supports only {share!r} here")
    old = settings.choice("type", _KINDS, "default")
    kind = settings.choice("rope_type", _KINDS, old)
    if "type" in settings:
        settings.overruled("type", "rope_type", kind)
    if factors is not None:
        return Rope(base=base, dims=dims, scaling=FactorScaling(factors=tuple(map(float, factors))))
    return Rope(base=base, dims=dims, scaling=_scaling(kind, settings, config))


def rope_settings(config: Config) -> Config:
    """The object that holds the rotary settings; empty where there is none."""
    new, old = config.raw("rope_parameters"), config.raw("rope_scaling")
    if new and old:
        config.overruled("rope_parameters", "rope_scaling", old)
    return config.nested("rope_scaling" if old else "rope_parameters")


def _either(config: Config, settings: Config, key: str, default: float) -> float:
    """A number that may stand among the rotary settings or, overruled by them, in the config itself."""
    value: float | None = settings.number(key, None)
    if value is None:
        return float(config.number(key, default))
    config.overruled(key, f"rope_parameters.{key}", value)
    return value


def _scaling(kind: str, settings: Config, config: Config) -> RopeScaling | None:
    match kind:
        case "linear":
            return LinearScaling(factor=settings.positive("factor"))
        case "dynamic":
            longest = config.integer("max_position_embeddings")
            return DynamicNtkScaling(factor=settings.positive("factor"), original_positions=longest)
        case "llama3":
            return Llama3Scaling(
                factor=settings.positive("factor"),
                low_freq_factor=settings.positive("low_freq_factor"),
                high_freq_factor=settings.positive("high_freq_factor"),
                original_positions=_original(settings, config),
            )
        case "yarn":
            return _yarn(settings, config)
    return None


def _original(settings: Config, config: Config) -> int:
    """The length before stretching. The config's own key comes first, as with transformers; the two must agree."""
    outer = config.integer(_ORIGINAL, None)
    inner = settings.integer(_ORIGINAL, None)
    if outer is not None and inner not in (None, outer):
        raise SpecError(f"config {_ORIGINAL!r} is {outer} but {inner} among the rotary settings; make them agree")
    found = outer or inner or config.integer("max_position_embeddings")
    return int(found)


def _yarn(settings: Config, config: Config) -> YarnScaling:
    original = _original(settings, config)
    if "factor" in settings and settings.raw("factor") is None:
        factor = config.integer("max_position_embeddings") / original
    else:
        factor = settings.positive("factor")
    return YarnScaling(
        factor=factor,
        original_positions=original,
        attention_factor=settings.positive("attention_factor", _attention_factor(settings, factor)),
        beta_fast=settings.number("beta_fast", None) or 32.0,
        beta_slow=settings.number("beta_slow", None) or 1.0,
        truncate=settings.flag("truncate", True),
    )


def _attention_factor(settings: Config, factor: float) -> float:
    part, whole = settings.number("mscale", None), settings.number("mscale_all_dim", None)
    if part and whole:
        return magnitude(factor, part) / magnitude(factor, whole)
    return magnitude(factor)


def magnitude(factor: float, weight: float = 1.0) -> float:
    """Growth of cosines and sines for a stretch by `factor` (YaRN, equation 22)."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def read_positions(config: Config, rope: Rope | None) -> int | None:
    """Reads the number of tokens that a model declares it was made for, stretching included.

    None if it declares none.
    """
    declared: int | None = config.integer("max_position_embeddings", None)
    scaling = None if rope is None else rope.scaling
    if isinstance(scaling, DynamicNtkScaling):
        return int(scaling.original_positions * scaling.factor)
    if isinstance(scaling, YarnScaling):
        return max(declared or 0, int(scaling.original_positions * scaling.factor))
    return declared


def write_positions(positions: int | None, rope: Rope | None) -> int | None:
    """Writes max_position_embeddings."""
    if rope is not None and isinstance(rope.scaling, DynamicNtkScaling):
        return rope.scaling.original_positions
    return positions


def write_rope(rope: Rope | None) -> dict[str, Any]:
    """Writes rope_theta and rope_scaling of `rope`."""
    if rope is None:
        return {"rope_scaling": None}
    return {"rope_theta": rope.base, "rope_scaling": _write_scaling(rope.scaling)}


def _write_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    match scaling:
        case LinearScaling(factor=factor):
            return {"rope_type": "linear", "factor": factor}
        case DynamicNtkScaling(factor=factor):
            return {"rope_type": "dynamic", "factor": factor}
        case Llama3Scaling():
            return {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                _ORIGINAL: scaling.original_positions,
            }
        case YarnScaling():
            return {
                "rope_type": "yarn",
                "factor": scaling.factor,
                "attention_factor": scaling.attention_factor,
                "beta_fast": scaling.beta_fast,
                "beta_slow": scaling.beta_slow,
                "truncate": scaling.truncate,
                _ORIGINAL: scaling.original_positions,
            }
        case FactorScaling():
            raise SpecError("published configs cannot say rotary factors for each frequency")
    return None
