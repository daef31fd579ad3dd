"""Mamba-1: the transformers layout (model_type "mamba") and the original state-spaces one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..spec import Block, Mamba, ModelSpec, Norm
from .base import Family, Gguf, TensorTable, first_mixer, gguf_outer_metadata
from .config import Config
from .mamba_common import ORIGINAL_IGNORED, is_original, original_config, original_outer, outer_names
from .names import NameRule, gguf_outer_names, mapped, rename, reshape

IGNORED = frozenset(
    """d_model n_layer d_inner ssm_cfg intermediate_size rms_norm fused_add_norm residual_in_fp32
    pad_vocab_size_multiple rescale_prenorm_residual time_step_floor time_step_init_scheme
    time_step_max time_step_min time_step_scale use_mambapy use_associative_scan""".split()
)


def spec(config: Config) -> ModelSpec:
    """Reads a transformers config."""
    width = config.integer("hidden_size")
    config.fixed("hidden_act", "silu", "the convolution and the gate use silu")
    inner = config.integer("expand", 2) * width
    rank = config.raw("time_step_rank", "auto")
    mixer = Mamba(
        inner=inner,
        d_state=config.integer("state_size"),
        dt_rank=math.ceil(width / 16) if rank == "auto" else config.integer("time_step_rank"),
        conv=config.integer("conv_kernel"),
        conv_bias=config.flag("use_conv_bias", True),
        proj_bias=config.flag("use_bias", False),
    )
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=width,
        blocks=(Block(mixer=mixer),) * config.layers("num_hidden_layers"),
        norm=Norm(eps=config.number("layer_norm_epsilon", 1e-5)),
        tied=config.flag("tie_word_embeddings", True),
    )


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a transformers config."""
    mixer = first_mixer(spec, Mamba)
    return {
        "architectures": ["MambaForCausalLM"],
        "model_type": "mamba",
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


def _mixer_names(prefix: str) -> list[NameRule]:
    ours = "blocks.{i}.mixer"
    plain = ("in_proj.weight", "in_proj.bias", "x_proj.weight", "dt_proj.weight", "out_proj.weight", "out_proj.bias")
    rules: list[NameRule] = [rename(f"{prefix}.{name}", f"{ours}.{name}") for name in plain]
    rules += [rename(f"{prefix}.conv1d.{name}", f"{ours}.conv.{name}") for name in ("weight", "bias")]
    rules += [
        rename(f"{prefix}.dt_proj.bias", f"{ours}.dt_bias"),
        rename(f"{prefix}.A_log", f"{ours}.a_log"),
        rename(f"{prefix}.D", f"{ours}.d"),
    ]
    return rules


def names(spec: ModelSpec) -> Sequence[NameRule]:
    """Names of the transformers layout."""
    return outer_names(spec, "embeddings", head_written=False) + _mixer_names("backbone.layers.{i}.mixer")


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
    return outer_names(spec, "embedding", head_written=True) + _mixer_names("backbone.layers.{i}.mixer")


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    width, inner = fields["embedding_length"], fields["ssm.inner_size"]
    return {
        "model_type": "mamba",
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


def _gguf_names(spec: ModelSpec) -> Sequence[NameRule]:
    theirs, ours = "blk.{i}.ssm_", "blocks.{i}.mixer."
    return [
        *gguf_outer_names(spec),
        rename(theirs + "in.weight", ours + "in_proj.weight"),
        reshape(theirs + "conv1d.weight", ours + "conv.weight", 0, -1),
        rename(theirs + "conv1d.bias", ours + "conv.bias"),
        rename(theirs + "x.weight", ours + "x_proj.weight"),
        rename(theirs + "dt.weight", ours + "dt_proj.weight"),
        rename(theirs + "dt.bias", ours + "dt_bias"),
        mapped(theirs + "a", ours + "a_log", lambda a: (-a).log(), lambda a_log: -a_log.exp()),
        rename(theirs + "d", ours + "d"),
        rename(theirs + "out.weight", ours + "out_proj.weight"),
    ]


def _gguf_metadata(spec: ModelSpec) -> dict[str, Any]:
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


FAMILIES = (
    Family(
        name="mamba",
        model_types=("mamba",),
        spec=spec,
        config=config,
        names=names,
        ignored=IGNORED,
        gguf=Gguf(arch="mamba", config=_gguf_config, names=_gguf_names, metadata=_gguf_metadata),
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
