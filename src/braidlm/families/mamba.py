"""Mamba-1: the transformers layout (model_type "mamba") and the original state-spaces one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..spec import Block, Mamba, ModelSpec
from .base import Family, Gguf, TensorTable, first_mixer
from .config import Config
from .gguf_values import flag
from .mamba1_common import (
    IGNORED,
    gguf_mamba_config,
    gguf_mamba_metadata,
    gguf_mamba_names,
    mamba_mixer_names,
    mamba_names,
    read_mamba,
    write_mamba,
)
from .mamba_common import ORIGINAL_IGNORED, is_original, original_config, original_outer, outer_names
from .names import NameRule


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a transformers config."""
    return {"architectures": ["MambaForCausalLM"], "model_type": "mamba", **write_mamba(spec)}


def _original_spec(config: Config) -> ModelSpec:
    outer = original_outer(config)
    cfg = Config(config.raw("ssm_cfg", {}), "mamba ssm_cfg")
    cfg.fixed("layer", "Mamba1", "this is the Mamba-1 reader")
    rank = cfg.raw("dt_rank", "auto")
    mixer = Mamba(
        inner=cfg.integer("expand", 2) * outer["width"],
        d_state=cfg.integer("d_state", 16),
        dt_rank=math.ceil(outer["width"] / 16) if rank == "auto" else cfg.integer("dt_rank"),
        conv=cfg.integer("d_conv", 4),
        conv_bias=cfg.flag("conv_bias", True),
        proj_bias=cfg.flag("bias", False),
    )
    cfg.finish(frozenset("""dt_min dt_max dt_init dt_scale dt_init_floor use_fast_path""".split()))
    return ModelSpec(blocks=(Block(mixer=mixer),) * config.layers("n_layer"), **outer)


def _original_config(spec: ModelSpec) -> dict[str, Any]:
    mixer = first_mixer(spec, Mamba)
    ssm_cfg = {
        "d_state": mixer.d_state,
        "d_conv": mixer.conv,
        "expand": mixer.inner // spec.width,
        "dt_rank": mixer.dt_rank,
        "conv_bias": mixer.conv_bias,
        "bias": mixer.proj_bias,
    }
    return original_config(spec, ssm_cfg)


def _original_names(spec: ModelSpec) -> Sequence[NameRule]:
    return outer_names(spec, "embedding", head_written=True) + mamba_mixer_names("backbone.layers.{i}.mixer")


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    return {"model_type": "mamba", **gguf_mamba_config(fields, file)}


FAMILIES = (
    Family(
        name="mamba",
        model_types=("mamba",),
        spec=read_mamba,
        config=config,
        names=mamba_names,
        ignored=IGNORED,
        gguf=Gguf(
            arch="mamba",
            matches=lambda fields: not flag(fields, "ssm.dt_b_c_rms", False),
            config=_gguf_config,
            names=gguf_mamba_names,
            metadata=gguf_mamba_metadata,
        ),
    ),
    Family(
        name="mamba-original",
        model_types=(),
        spec=_original_spec,
        config=_original_config,
        names=_original_names,
        ignored=ORIGINAL_IGNORED,
        matches=lambda config: is_original(config, "Mamba1"),
        weights_file="pytorch_model.bin",
    ),
)
