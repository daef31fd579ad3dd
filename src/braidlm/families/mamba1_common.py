"""Shared parts of Mamba-1 and FalconMamba: config keys and tensor names, of the transformers layout and of GGUF."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..spec import Block, Mamba, ModelSpec, Norm
from .base import TensorTable, first_mixer, gguf_outer_metadata
from .config import Config
from .mamba_common import outer_names
from .names import NameRule, gguf_outer_names, mapped, rename, reshape

IGNORED = frozenset(
    """ssm_cfg rms_norm fused_add_norm residual_in_fp32 pad_vocab_size_multiple rescale_prenorm_residual
    time_step_floor time_step_init_scheme time_step_max time_step_min time_step_scale use_mambapy
    use_falcon_mambapy use_associative_scan""".split()
)


def read_mamba(config: Config, **norms: Any) -> ModelSpec:
    """Reads a transformers config; `norms` are the fields of `Mamba` that describe norms of dt, B and C."""
    width = config.integer("hidden_size")
    config.fixed("hidden_act", "silu", "the convolution and the gate use silu")
    inner, layers = _inner(config, width), config.layers("num_hidden_layers")
    rank = config.raw("time_step_rank", "auto")
    mixer = Mamba(
        inner=inner,
        d_state=config.integer("state_size"),
        dt_rank=math.ceil(width / 16) if rank == "auto" else config.integer("time_step_rank"),
        conv=config.integer("conv_kernel"),
        conv_bias=config.flag("use_conv_bias", True),
        proj_bias=config.flag("use_bias", False),
    )
    config.overruled("d_model", "hidden_size", width)
    config.overruled("n_layer", "num_hidden_layers", layers)
    config.overruled("d_inner", "intermediate_size", inner)
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=width,
        blocks=(Block(mixer=replace(mixer, **norms)),) * layers,
        norm=Norm(eps=config.number("layer_norm_epsilon", 1e-5)),
        tied=config.flag("tie_word_embeddings", True),
    )


def _inner(config: Config, width: int) -> int:
    """Inner channels: `intermediate_size` before `expand`, which FalconMamba-7B gives as 16 although it is 2."""
    expanded = config.integer("expand", 2) * width
    inner: int = config.integer("intermediate_size", expanded)
    if inner != expanded:
        config.note(f"'expand' makes {expanded} inner channels, but 'intermediate_size' says {inner} and is taken")
    return inner


def write_mamba(spec: ModelSpec) -> dict[str, Any]:
    """Writes the keys of a transformers config."""
    mixer = first_mixer(spec, Mamba)
    return {
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "num_hidden_layers": len(spec.blocks),
        "state_size": mixer.d_state,
        "expand": mixer.inner // spec.width,
        "intermediate_size": mixer.inner,
        "conv_kernel": mixer.conv,
        "time_step_rank": mixer.dt_rank,
        "use_conv_bias": mixer.conv_bias,
        "use_bias": mixer.proj_bias,
        "layer_norm_epsilon": spec.norm.eps,
        "hidden_act": "silu",
        "residual_in_fp32": True,
        "tie_word_embeddings": spec.tied,
    }


def mamba_names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of the transformers layout."""
    return outer_names(spec, "embeddings", head_written=False) + mamba_mixer_names("backbone.layers.{i}.mixer")


def mamba_mixer_names(source: str) -> list[NameRule]:
    """Name rules of a Mamba mixer under the prefix `source`."""
    target = "blocks.{i}.mixer"
    plain = ("in_proj.weight", "in_proj.bias", "x_proj.weight", "dt_proj.weight", "out_proj.weight", "out_proj.bias")
    rules: list[NameRule] = [rename(f"{source}.{name}", f"{target}.{name}") for name in plain]
    rules += [rename(f"{source}.conv1d.{name}", f"{target}.conv.{name}") for name in ("weight", "bias")]
    rules += [
        rename(f"{source}.dt_proj.bias", f"{target}.dt_bias"),
        rename(f"{source}.A_log", f"{target}.a_log"),
        rename(f"{source}.D", f"{target}.d"),
    ]
    return rules


def gguf_mamba_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    """Makes a transformers config, without its model_type, from GGUF metadata."""
    width, inner = fields["embedding_length"], fields["ssm.inner_size"]
    return {
        "vocab_size": file.shapes["token_embd.weight"][0],
        "hidden_size": width,
        "num_hidden_layers": fields["block_count"],
        "state_size": fields["ssm.state_size"],
        "expand": inner // width,
        "conv_kernel": fields["ssm.conv_kernel"],
        "time_step_rank": fields["ssm.time_step_rank"],
        "layer_norm_epsilon": fields["attention.layer_norm_rms_epsilon"],
        "tie_word_embeddings": "output.weight" not in file.shapes,
    }


def gguf_mamba_names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of GGUF files."""
    source, target = "blk.{i}.ssm_", "blocks.{i}.mixer."
    return [
        *gguf_outer_names(spec),
        rename(source + "in.weight", target + "in_proj.weight"),
        reshape(source + "conv1d.weight", target + "conv.weight", 0, -1),
        rename(source + "conv1d.bias", target + "conv.bias"),
        rename(source + "x.weight", target + "x_proj.weight"),
        rename(source + "dt.weight", target + "dt_proj.weight"),
        rename(source + "dt.bias", target + "dt_bias"),
        mapped(source + "a", target + "a_log", lambda a: (-a).log(), lambda a_log: -a_log.exp()),
        rename(source + "d", target + "d"),
        rename(source + "out.weight", target + "out_proj.weight"),
    ]


def gguf_mamba_metadata(spec: ModelSpec) -> dict[str, Any]:
    """Writes GGUF metadata of a model."""
    mixer = first_mixer(spec, Mamba)
    return gguf_outer_metadata(spec) | {
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "ssm.conv_kernel": mixer.conv,
        "ssm.inner_size": mixer.inner,
        "ssm.state_size": mixer.d_state,
        "ssm.time_step_rank": mixer.dt_rank,
        "ssm.dt_b_c_rms": mixer.inner_norms,
    }
