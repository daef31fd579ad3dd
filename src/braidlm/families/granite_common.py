"""The four multipliers of Granite models, in published configs and in GGUF files."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..spec import Attention, ModelSpec
from .config import Config
from .gguf_values import number


class Multipliers(NamedTuple):
    """Multipliers of a Granite: of attention scores, embedding and residual branches, and the logits' divisor."""

    attention: float
    embedding: float
    residual: float
    logits: float


def read_multipliers(config: Config) -> Multipliers:
    """Reads multipliers from a published config; each is 1 where it is absent."""
    return Multipliers(
        config.number("attention_multiplier", 1.0),
        config.number("embedding_multiplier", 1.0),
        config.number("residual_multiplier", 1.0),
        config.positive("logits_scaling", 1.0),
    )


def write_multipliers(spec: ModelSpec, attention: Attention) -> dict[str, Any]:
    """Writes the keys that `read_multipliers` reads."""
    return {
        "attention_multiplier": attention.scale or attention.head_dim**-0.5,
        "embedding_multiplier": spec.embed_scale,
        "residual_multiplier": spec.blocks[0].residual_scale,
        "logits_scaling": 1.0 / spec.logit_scale,
    }


def gguf_multipliers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a published config from GGUF metadata. A file without a scale of attention means the usual one."""
    scales = {
        "embedding_multiplier": fields.get("embedding_scale", 1.0),
        "residual_multiplier": fields.get("residual_scale", 1.0),
        "logits_scaling": fields.get("logit_scale", 1.0),
    }
    heads = fields["attention.head_count"]
    heads = max(heads) if isinstance(heads, list) else heads
    usual = (fields.get("attention.key_length") or fields["embedding_length"] // heads) ** -0.5
    return scales | {"attention_multiplier": number(fields, "attention.scale", 0.0) or usual}


def gguf_scales(spec: ModelSpec, attention: Attention) -> dict[str, Any]:
    """GGUF metadata that `gguf_multipliers` reads."""
    return {
        "attention.scale": attention.scale or attention.head_dim**-0.5,
        "embedding_scale": spec.embed_scale,
        "residual_scale": spec.blocks[0].residual_scale,
        "logit_scale": 1.0 / spec.logit_scale,
        "rope.scaling.finetuned": attention.rope is not None,  # how these files say that there are positions at all
    }
