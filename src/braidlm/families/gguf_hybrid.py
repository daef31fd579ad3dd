"""GGUF files of architecture "granitehybrid", which hold Granite 4.0 and Bamba: Mamba-2 and attention blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SpecError
from ..spec import Attention, Mamba2, ModelSpec, Moe
from .base import TensorTable, first_mixer, gguf_outer_metadata
from .gguf_rope import read_gguf_rope
from .gguf_values import flag
from .mamba_common import gguf_mamba2_metadata, gguf_mamba2_names
from .names import NameRule, gguf_outer_names, joined, paired_rows, rename


def has_scales(fields: Mapping[str, Any]) -> bool:
    """Whether a file holds a Granite: a Bamba has none of its multipliers."""
    return not {"attention.scale", "embedding_scale", "residual_scale", "logit_scale"}.isdisjoint(fields)


def has_positions(fields: Mapping[str, Any]) -> bool:
    """Whether attention rotates; these files say it in a key of another name, and silence means that it does."""
    return flag(fields, "rope.scaling.finetuned", True)


def attending_gguf_blocks(fields: Mapping[str, Any]) -> list[bool]:
    """Whether each block attends: a block of Mamba-2 has no key/value heads."""
    kv_heads = fields["attention.head_count_kv"]
    return [bool(n) for n in kv_heads] if isinstance(kv_heads, list) else [bool(kv_heads)] * fields["block_count"]


def gguf_hybrid_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    """Makes the keys of a published config that both families have, from GGUF metadata."""
    heads, kv_heads = fields["attention.head_count"], fields["attention.head_count_kv"]
    width, inner = fields["embedding_length"], fields["ssm.inner_size"]
    return {
        "vocab_size": file.shapes["token_embd.weight"][0],
        "hidden_size": width,
        "intermediate_size": fields["feed_forward_length"],
        "num_hidden_layers": fields["block_count"],
        "num_attention_heads": max(heads) if isinstance(heads, list) else heads,
        "num_key_value_heads": max(kv_heads) if isinstance(kv_heads, list) else kv_heads,
        "rms_norm_eps": fields["attention.layer_norm_rms_epsilon"],
        **read_gguf_rope(fields, file),
        "max_position_embeddings": fields.get("context_length"),
        "mamba_n_heads": fields["ssm.time_step_rank"],
        "mamba_d_head": inner // fields["ssm.time_step_rank"],
        "mamba_d_state": fields["ssm.state_size"],
        "mamba_n_groups": fields["ssm.group_count"],
        "mamba_d_conv": fields["ssm.conv_kernel"],
        "mamba_expand": inner // width,
        "tie_word_embeddings": "output.weight" not in file.shapes,
    }


def gguf_hybrid_names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of GGUF files.

    All rows of queries and keys lie by pairs, also where only a part of a head is rotated.
    """
    ffn, mixer = "blocks.{i}.ffn", "blocks.{i}.mixer"
    moe = isinstance(spec.blocks[0].ffn, Moe)
    shared, suffix = (f"{ffn}.shared", "_shexp") if moe else (ffn, "")
    attention = first_mixer(spec, Attention)
    rules: list[NameRule] = [
        *gguf_outer_names(spec),
        rename("blk.{i}.ffn_norm.weight", "blocks.{i}.ffn_norm.weight"),
        *gguf_mamba2_names(_groups(spec)),
        rename("blk.{i}.attn_v.weight", f"{mixer}.v_proj.weight"),
        rename("blk.{i}.attn_output.weight", f"{mixer}.o_proj.weight"),
        rename("blk.{i}.ffn_gate_inp.weight", f"{ffn}.router"),
        rename("blk.{i}.ffn_down_exps.weight", f"{ffn}.down"),
    ]
    for part, heads in (("q", attention.heads), ("k", attention.kv_heads)):
        rules.append(paired_rows(f"blk.{{i}}.attn_{part}.weight", f"{mixer}.{part}_proj.weight", heads))
    for part in ("gate", "up", "down"):
        rules.append(rename(f"blk.{{i}}.ffn_{part}{suffix}.weight", f"{shared}.{part}_proj.weight"))
    rules.append(joined("blk.{i}.ffn_gate_exps.weight", "blk.{i}.ffn_up_exps.weight", f"{ffn}.gate_up", dim=1))
    return rules


def _groups(spec: ModelSpec) -> int:
    return next((block.mixer.groups for block in spec.blocks if isinstance(block.mixer, Mamba2)), 1)


def gguf_hybrid_metadata(spec: ModelSpec) -> dict[str, Any]:
    """Writes GGUF metadata that both families have."""
    attention, ffn = first_mixer(spec, Attention), spec.blocks[0].ffn
    if ffn is None:
        raise SpecError("every block must have a feed-forward")
    kv_heads = [block.mixer.kv_heads if isinstance(block.mixer, Attention) else 0 for block in spec.blocks]
    return {
        **gguf_outer_metadata(spec),
        **gguf_mamba2_metadata(first_mixer(spec, Mamba2)),
        "feed_forward_length": ffn.hidden,
        "attention.head_count": attention.heads,
        "attention.head_count_kv": kv_heads,
        "rope.dimension_count": attention.rope.dims if attention.rope else attention.head_dim,
        **({"rope.freq_base": attention.rope.base} if attention.rope else {}),
    }
