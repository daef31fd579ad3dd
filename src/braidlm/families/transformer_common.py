"""Shared parts of the plain transformers Llama, Mistral and dense Granite: attention and a gated MLP in every block."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import SpecError
from ..spec import Attention, ModelSpec, Rope, require
from .base import TensorTable, first_mixer, first_mlp, gguf_outer_metadata
from .config import Config
from .gguf_rope import ROPE_FACTORS, gguf_rope_tensors, read_gguf_rope, write_gguf_scaling
from .names import Drop, NameRule, attention_names, gated_mlp_names, gguf_outer_names, outer_names, paired_rows, rename
from .rope import read_rope, write_positions, write_rope

_ATTENTION = "blocks.{i}.mixer"


def read_attention(config: Config, kv_heads: int | None, **more: Any) -> Attention:
    """Reads the rotary attention of a transformers config.

    `kv_heads` is how many there are where the config is silent.
    """
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    head_dim = config.integer("head_dim", None)
    if head_dim is None:
        require(width % heads == 0, "config 'num_attention_heads'", heads, f"a divisor of hidden_size ({width})")
        head_dim = width // heads
    silent = heads if "num_key_value_heads" in config or kv_heads is None else kv_heads
    return Attention(
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", silent),
        head_dim=head_dim,
        rope=read_rope(config, head_dim),
        **more,
    )


def write_transformer(spec: ModelSpec) -> dict[str, Any]:
    """Writes the keys that the configs of these families have in common."""
    mixer, mlp = first_mixer(spec, Attention), first_mlp(spec)
    return {
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "intermediate_size": mlp.hidden,
        "num_hidden_layers": len(spec.blocks),
        "num_attention_heads": mixer.heads,
        "num_key_value_heads": mixer.kv_heads,
        "head_dim": mixer.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm.eps,
        "max_position_embeddings": write_positions(spec.max_positions, mixer.rope),
        "tie_word_embeddings": spec.tied,
        **write_rope(mixer.rope),
    }


def transformer_names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of the transformers layout."""
    block = "model.layers.{i}"
    return [
        *outer_names(spec, "model.norm.weight"),
        rename(f"{block}.input_layernorm.weight", "blocks.{i}.mixer_norm.weight"),
        rename(f"{block}.post_attention_layernorm.weight", "blocks.{i}.ffn_norm.weight"),
        *attention_names(f"{block}.self_attn", _ATTENTION),
        *gated_mlp_names(f"{block}.mlp", "blocks.{i}.ffn"),
    ]


def gguf_transformer_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    """Makes a transformers config, without its model_type, from GGUF metadata."""
    heads = fields["attention.head_count"]
    head_dim = fields.get("attention.key_length", fields["embedding_length"] // heads)
    rotated = fields.get("rope.dimension_count", head_dim)
    if rotated != head_dim:
        raise SpecError(f"this GGUF file rotates {rotated} of {head_dim} dimensions of a head, but all of them must be")
    return {
        "vocab_size": file.shapes["token_embd.weight"][0],
        "hidden_size": fields["embedding_length"],
        "intermediate_size": fields["feed_forward_length"],
        "num_hidden_layers": fields["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": fields["attention.layer_norm_rms_epsilon"],
        "max_position_embeddings": fields.get("context_length"),
        "tie_word_embeddings": "output.weight" not in file.shapes,
        "attention_bias": "blk.0.attn_q.bias" in file.shapes,
        "mlp_bias": "blk.0.ffn_gate.bias" in file.shapes,
        **read_gguf_rope(fields, file),
    }


def gguf_transformer_names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of GGUF files, rows of queries and keys by pairs."""
    attention = first_mixer(spec, Attention)
    sizes = {"q": attention.heads, "k": attention.kv_heads}
    rules: list[NameRule] = [
        *gguf_outer_names(spec),
        rename("blk.{i}.ffn_norm.weight", "blocks.{i}.ffn_norm.weight"),
        Drop(ROPE_FACTORS),  # part of the description
    ]
    for kind in ("weight", "bias"):
        for part, heads in sizes.items():
            rules.append(paired_rows(f"blk.{{i}}.attn_{part}.{kind}", f"{_ATTENTION}.{part}_proj.{kind}", heads))
        rules.append(rename(f"blk.{{i}}.attn_v.{kind}", f"{_ATTENTION}.v_proj.{kind}"))
        rules.append(rename(f"blk.{{i}}.attn_output.{kind}", f"{_ATTENTION}.o_proj.{kind}"))
        for part in ("gate", "up", "down"):
            rules.append(rename(f"blk.{{i}}.ffn_{part}.{kind}", f"blocks.{{i}}.ffn.{part}_proj.{kind}"))
    return rules


def gguf_transformer_metadata(spec: ModelSpec) -> dict[str, Any]:
    """Writes GGUF metadata.

    What it cannot say (a window, which other readers of these files do not see) is left out.
    """
    mixer = first_mixer(spec, Attention)
    rope = mixer.rope or Rope(base=10000.0, dims=mixer.head_dim)
    return gguf_outer_metadata(spec) | {
        "feed_forward_length": first_mlp(spec).hidden,
        "attention.head_count": mixer.heads,
        "attention.head_count_kv": mixer.kv_heads,
        "attention.key_length": mixer.head_dim,
        "attention.value_length": mixer.v_dim,
        "rope.dimension_count": rope.dims,
        "rope.freq_base": rope.base,
        **write_gguf_scaling(rope),
    }


def gguf_transformer_tensors(spec: ModelSpec) -> dict[str, Tensor]:
    """Tensors of GGUF files that hold a part of the spec."""
    return gguf_rope_tensors(first_mixer(spec, Attention).rope)
