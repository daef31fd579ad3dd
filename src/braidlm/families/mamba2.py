"""Mamba-2: the transformers layout (model_type "mamba2") and the original state-spaces one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..spec import Block, Mamba2, ModelSpec, Norm, require
from .base import Family, Gguf, TensorTable, first_mixer, gguf_outer_metadata
from .config import Config
from .mamba_common import (
    ORIGINAL_IGNORED,
    gguf_mamba2_metadata,
    gguf_mamba2_names,
    is_original,
    mamba2_mixer_names,
    original_config,
    original_outer,
    outer_names,
    read_limit,
    write_limit,
)
from .names import NameRule, gguf_outer_names

IGNORED = frozenset(
    """chunk_size rms_norm residual_in_fp32 rescale_prenorm_residual time_step_floor time_step_max
    time_step_min time_step_rank time_step_init_scheme time_step_scale""".split()
)


def spec(config: Config) -> ModelSpec:
    """Reads a transformers config."""
    width = config.integer("hidden_size")
    config.fixed("hidden_act", "silu", "the convolution and the gate use silu")
    config.unused(["norm_before_gate"])  # transformers always gates first
    inner = config.integer("expand", 2) * width
    heads = config.integer("num_heads")
    head_dim = config.integer("head_dim", config.silent("head_dim", 64))
    require(heads * head_dim == inner, "config 'head_dim'", head_dim, f"{inner} / num_heads ({heads})")
    config.overruled("intermediate_size", "expand", inner)
    dt_min, dt_max = read_limit(config.raw("time_step_limit", (0.0, math.inf)))
    mixer = Mamba2(
        heads=heads,
        head_dim=head_dim,
        d_state=config.integer("state_size"),
        groups=config.integer("n_groups", 8),
        conv=config.integer("conv_kernel", 4),
        conv_bias=config.flag("use_conv_bias", True),
        proj_bias=config.flag("use_bias", False),
        dt_min=dt_min,
        dt_max=dt_max,
    )
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=width,
        blocks=(Block(mixer=mixer),) * config.layers("num_hidden_layers"),
        norm=Norm(eps=config.number("layer_norm_epsilon", 1e-5)),
        tied=config.flag("tie_word_embeddings", False),
    )


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a transformers config."""
    mixer = first_mixer(spec, Mamba2)
    return {
        "architectures": ["Mamba2ForCausalLM"],
        "model_type": "mamba2",
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "num_hidden_layers": len(spec.blocks),
        "num_heads": mixer.heads,
        "head_dim": mixer.head_dim,
        "state_size": mixer.d_state,
        "n_groups": mixer.groups,
        "expand": mixer.inner // spec.width,
        "conv_kernel": mixer.conv,
        "use_conv_bias": mixer.conv_bias,
        "use_bias": mixer.proj_bias,
        "time_step_limit": write_limit(mixer),
        "layer_norm_epsilon": spec.norm.eps,
        "hidden_act": "silu",
        "residual_in_fp32": True,
        "tie_word_embeddings": spec.tied,
    }


def names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of the transformers layout."""
    return outer_names(spec, "embeddings", head_written=False) + mamba2_mixer_names("backbone.layers.{i}.mixer")


def _original_spec(config: Config) -> ModelSpec:
    outer = original_outer(config)
    cfg = Config(config.raw("ssm_cfg"), "mamba2 ssm_cfg")
    cfg.fixed("layer", "Mamba2", "this is the Mamba-2 reader")
    head_dim = cfg.integer("headdim", 64)
    inner = cfg.integer("expand", 2) * outer["width"]
    cfg.fixed("rmsnorm", True, "the gated norm was never left out of published weights")
    cfg.fixed("norm_before_gate", False, "published checkpoints gate first")
    dt_min, dt_max = read_limit(cfg.raw("dt_limit", (0.0, math.inf)))
    mixer = Mamba2(
        heads=inner // head_dim,
        head_dim=head_dim,
        d_state=cfg.integer("d_state", 128),
        groups=cfg.integer("ngroups", 1),
        conv=cfg.integer("d_conv", 4),
        conv_bias=cfg.flag("conv_bias", True),
        proj_bias=cfg.flag("bias", False),
        dt_min=dt_min,
        dt_max=dt_max,
    )
    cfg.finish(frozenset("""chunk_size dt_min dt_max dt_init_floor A_init_range use_mem_eff_path""".split()))
    return ModelSpec(blocks=(Block(mixer=mixer),) * config.layers("n_layer"), **outer)


def _original_config(spec: ModelSpec) -> dict[str, Any]:
    mixer = first_mixer(spec, Mamba2)
    ssm_cfg = {
        "layer": "Mamba2",
        "d_state": mixer.d_state,
        "d_conv": mixer.conv,
        "expand": mixer.inner // spec.width,
        "headdim": mixer.head_dim,
        "ngroups": mixer.groups,
        "conv_bias": mixer.conv_bias,
        "bias": mixer.proj_bias,
        "dt_limit": write_limit(mixer),
    }
    return original_config(spec, ssm_cfg)


def _original_names(spec: ModelSpec) -> Sequence[NameRule]:
    return outer_names(spec, "embedding", head_written=True) + mamba2_mixer_names("backbone.layers.{i}.mixer")


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    width, inner = fields["embedding_length"], fields["ssm.inner_size"]
    heads = fields["ssm.time_step_rank"]
    return {
        "model_type": "mamba2",
        "vocab_size": file.shapes["token_embd.weight"][0],
        "hidden_size": width,
        "num_hidden_layers": fields["block_count"],
        "num_heads": heads,
        "head_dim": inner // heads,
        "state_size": fields["ssm.state_size"],
        "n_groups": fields["ssm.group_count"],
        "expand": inner // width,
        "conv_kernel": fields["ssm.conv_kernel"],
        "layer_norm_epsilon": fields["attention.layer_norm_rms_epsilon"],
        "tie_word_embeddings": "output.weight" not in file.shapes,
    }


def _gguf_names(spec: ModelSpec) -> Sequence[NameRule]:
    return [*gguf_outer_names(spec), *gguf_mamba2_names(first_mixer(spec, Mamba2).groups)]


def _gguf_metadata(spec: ModelSpec) -> dict[str, Any]:
    # There are no heads and no feed-forward, which llama.cpp wants to be told.
    none = {"feed_forward_length": 0, "attention.head_count": 0}
    return gguf_outer_metadata(spec) | none | gguf_mamba2_metadata(first_mixer(spec, Mamba2))


FAMILIES = (
    Family(
        name="mamba2",
        model_types=("mamba2",),
        spec=spec,
        config=config,
        names=names,
        ignored=IGNORED,
        gguf=Gguf(arch="mamba2", config=_gguf_config, names=_gguf_names, metadata=_gguf_metadata),
    ),
    Family(
        name="mamba2-original",
        model_types=(),
        spec=_original_spec,
        config=_original_config,
        names=_original_names,
        ignored=ORIGINAL_IGNORED,
        matches=lambda config: is_original(config, "Mamba2"),
        weights_file="pytorch_model.bin",
    ),
)
