"""Shared parts of Mamba and Mamba-2 checkpoints: outer tensor names, and the original state-spaces format.

The original config has no model_type, an unpadded vocabulary and overrides in `ssm_cfg`; its
weights are a pickle with a singular "embedding" and the tied head stored twice.
"""

import math
from collections.abc import Mapping
from typing import Any

from ..errors import SpecError
from ..spec import Mamba2, ModelSpec, Norm, require
from .config import Config
from .names import Alias, NameRule, mapped, rename, reshape

ORIGINAL_IGNORED = frozenset(["residual_in_fp32", "fused_add_norm", "attn_cfg"])


def outer_names(spec: ModelSpec, embed: str, *, head_written: bool) -> list[NameRule]:
    """Name rules of embedding, norms and head, as Mamba and Mamba-2 name them."""
    rules: list[NameRule] = [
        rename(f"backbone.{embed}.weight", "embed.weight"),
        rename("backbone.layers.{i}.norm.weight", "blocks.{i}.mixer_norm.weight"),
        rename("backbone.norm_f.weight", "norm.weight"),
    ]
    if spec.tied:
        return [*rules, Alias("lm_head.weight", "embed.weight", written=head_written)]
    return [*rules, rename("lm_head.weight", "head.weight")]


def is_original(config: Mapping[str, Any], layer: str) -> bool:
    """Whether a config is of the original format with this kind of layer."""
    cfg = config.get("ssm_cfg")
    return "model_type" not in config and isinstance(cfg, dict) and cfg.get("layer", "Mamba1") == layer


def original_outer(config: Config) -> dict[str, Any]:
    """Reads what original Mamba and Mamba-2 configs share; their norm's eps (1e-5) has no key."""
    multiple = config.integer("pad_vocab_size_multiple", 8)
    vocab = -(-config.integer("vocab_size") // multiple) * multiple
    config.fixed("rms_norm", True, "the layer-norm variant was never published with weights")
    config.fixed("d_intermediate", 0, "blocks with an MLP are another architecture")
    if config.raw("attn_layer_idx", []):
        raise SpecError("config 'attn_layer_idx' names attention blocks, which this format is not supported with")
    return {
        "vocab": vocab,
        "width": config.integer("d_model"),
        "norm": Norm(eps=1e-5),
        "tied": config.flag("tie_embeddings", True),
    }


def original_config(spec: ModelSpec, ssm_cfg: dict[str, Any]) -> dict[str, Any]:
    """Writes an original config around `ssm_cfg`."""
    return {
        "d_model": spec.width,
        "n_layer": len(spec.blocks),
        "vocab_size": spec.vocab,
        "ssm_cfg": ssm_cfg,
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 1,
        "tie_embeddings": spec.tied,
    }


def read_limit(limit: Any) -> tuple[float, float | None]:
    """Reads dt_min and dt_max of a [lower, upper] pair; an upper limit of infinity is none.

    Files spell infinity as the bare token `Infinity`, as {"__float__": "Infinity"}, or as a string.
    """
    try:
        lower, upper = (float(item["__float__"]) if isinstance(item, Mapping) else float(item) for item in limit)
    except (TypeError, ValueError, KeyError):
        raise SpecError(f"the config's time step limit is {limit!r}, but must be a pair of numbers") from None
    return lower, None if math.isinf(upper) else upper


def write_limit(mixer: Mamba2) -> list[float]:
    """Writes the pair that `read_limit` reads."""
    return [mixer.dt_min, math.inf if mixer.dt_max is None else mixer.dt_max]


def mamba2_mixer_names(source: str) -> list[NameRule]:
    """Name rules of a Mamba-2 mixer under the prefix `source`, as every published family names them."""
    target = "blocks.{i}.mixer"
    same = ("in_proj.weight", "in_proj.bias", "dt_bias", "norm.weight", "out_proj.weight", "out_proj.bias")
    pairs = [(name, name) for name in same]
    pairs += [("conv1d.weight", "conv.weight"), ("conv1d.bias", "conv.bias"), ("A_log", "a_log"), ("D", "d")]
    return [rename(f"{source}.{their}", f"{target}.{our}") for their, our in pairs]


def gguf_mamba2_names(groups: int) -> list[NameRule]:
    """Name rules of a Mamba-2 mixer in GGUF files: A instead of its logarithm, vectors as columns, norm by groups."""
    source, target = "blk.{i}.ssm_", "blocks.{i}.mixer."
    return [
        rename(source + "in.weight", target + "in_proj.weight"),
        reshape(source + "conv1d.weight", target + "conv.weight", 0, -1),
        rename(source + "conv1d.bias", target + "conv.bias"),
        rename(source + "dt.bias", target + "dt_bias"),
        mapped(source + "a", target + "a_log", lambda a: (-a).log().flatten(), lambda a_log: -a_log.exp()[:, None]),
        reshape(source + "d", target + "d", 0, 1),
        reshape(source + "norm.weight", target + "norm.weight", groups, -1),
        rename(source + "out.weight", target + "out_proj.weight"),
    ]


def gguf_mamba2_metadata(mixer: Mamba2) -> dict[str, Any]:
    """Writes GGUF metadata of a Mamba-2 mixer's sizes."""
    return {
        "ssm.conv_kernel": mixer.conv,
        "ssm.inner_size": mixer.inner,
        "ssm.state_size": mixer.d_state,
        "ssm.time_step_rank": mixer.heads,
        "ssm.group_count": mixer.groups,
    }


def read_mamba2(config: Config, width: int) -> Mamba2:
    """Reads the "mamba_..." keys and the time step limit that Bamba and Granite share."""
    dt_min, dt_max = read_limit(config.raw("time_step_limit", (0.0, math.inf)))
    inner = config.integer("mamba_expand", 2) * width
    heads = config.integer("mamba_n_heads")
    size = config.raw("mamba_d_head", "auto")
    head_dim = inner // heads if size == "auto" else config.integer("mamba_d_head")
    require(heads * head_dim == inner, "config 'mamba_d_head'", head_dim, f"{inner} / mamba_n_heads ({heads})")
    return Mamba2(
        heads=heads,
        head_dim=head_dim,
        d_state=config.integer("mamba_d_state"),
        groups=config.integer("mamba_n_groups", 1),
        conv=config.integer("mamba_d_conv", 4),
        conv_bias=config.flag("mamba_conv_bias", True),
        proj_bias=config.flag("mamba_proj_bias", False),
        dt_min=dt_min,
        dt_max=dt_max,
    )


def write_mamba2(mixer: Mamba2, width: int) -> dict[str, Any]:
    """Writes the keys that `read_mamba2` reads."""
    keys = {
        "mamba_expand": mixer.inner // width,
        "mamba_n_heads": mixer.heads,
        "mamba_d_head": mixer.head_dim,
        "mamba_d_state": mixer.d_state,
        "mamba_n_groups": mixer.groups,
        "mamba_d_conv": mixer.conv,
        "mamba_conv_bias": mixer.conv_bias,
        "mamba_proj_bias": mixer.proj_bias,
    }
    limited = mixer.dt_min > 0 or mixer.dt_max is not None
    return keys | ({"time_step_limit": write_limit(mixer)} if limited else {})
