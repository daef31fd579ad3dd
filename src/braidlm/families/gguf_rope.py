"""Rotary settings in GGUF metadata, both ways: base, scaling, and Llama 3's factors, which are a tensor."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import SpecError
from ..spec import FactorScaling, LinearScaling, Rope, YarnScaling
from .base import TensorTable
from .gguf_values import number
from .rope import magnitude

ROPE_FACTORS = "rope_freqs.weight"


def read_gguf_rope(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    """Rotary keys of a transformers config from GGUF metadata."""
    keys: dict[str, Any] = {"rope_theta": fields.get("rope.freq_base", 10000.0)}
    # As llama.cpp reads it: a factor without a kind is of positions, a kind without a factor changes nothing.
    kind = fields.get("rope.scaling.type", "linear")
    if kind not in ("none", "linear", "yarn"):
        raise SpecError(f"this GGUF file scales rotary positions by {kind!r}, which is not supported")
    if kind == "linear" and not _factor(fields):
        kind = "none"
    if ROPE_FACTORS in file.shapes:
        if kind != "none":
            raise SpecError(f"this GGUF file scales rotary positions by {ROPE_FACTORS} and by {kind!r}; one must do")
        return keys | {"rope_factors": file.get(ROPE_FACTORS).tolist()}
    return keys if kind == "none" else keys | {"rope_scaling": _scaling(kind, fields)}


def _factor(fields: Mapping[str, Any]) -> float:
    """The factor of a scaling, under the name of files of 2023 too; 0 where there is none."""
    return number(fields, "rope.scaling.factor", 0.0) or number(fields, "rope.scale_linear", 0.0)


def _scaling(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    factor = _factor(fields) or fields["rope.scaling.factor"]
    scaling = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        grown = magnitude(factor) * number(fields, "rope.scaling.attn_factor", 1.0)
        scaling |= {"attention_factor": fields.get("rope.scaling.yarn_attn_factor", grown)}
        scaling["original_max_position_embeddings"] = fields["rope.scaling.original_context_length"]
        for name in ("beta_fast", "beta_slow"):
            scaling[name] = fields.get(f"rope.scaling.yarn_{name}")
    return scaling


def write_gguf_scaling(rope: Rope) -> dict[str, Any]:
    """GGUF metadata of a scaling that it can say."""
    match rope.scaling:
        case LinearScaling(factor=factor):
            return {"rope.scaling.type": "linear", "rope.scaling.factor": factor}
        case YarnScaling() as yarn:
            # Other readers know only the usual borders of the ramp, so that others are left out, and so refused.
            return {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": yarn.factor,
                "rope.scaling.original_context_length": yarn.original_positions,
                "rope.scaling.attn_factor": yarn.attention_factor / magnitude(yarn.factor),
            }
    return {}


def gguf_rope_tensors(rope: Rope | None) -> dict[str, Tensor]:
    """Llama 3's factors of frequencies, which GGUF files hold as a tensor."""
    if rope is None or not isinstance(rope.scaling, FactorScaling):
        return {}
    return {ROPE_FACTORS: torch.tensor(rope.scaling.factors, device="cpu")}
