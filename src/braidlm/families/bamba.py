"""Bamba (model_type "bamba"): Mamba-2 with a few rotary attention blocks, a gated MLP in each."""

from collections.abc import Sequence
from typing import Any

from ..spec import Attention, Block, Mamba2, Mlp, ModelSpec, Norm, require
from .base import Family, first_mixer, first_mlp
from .config import Config, attending_blocks, read_rope, write_rope
from .mamba_common import mamba2_mixer_names, read_mamba2, write_mamba2
from .names import NameRule, attention_names, gated_mlp_names, outer_names, rename

IGNORED = frozenset(["mamba_chunk_size", "num_logits_to_keep", "use_mamba_kernels", "z_loss_coefficient"])


def spec(config: Config) -> ModelSpec:
    """Reads a published config. `attn_rotary_emb` absent means half of each head, as transformers computes."""
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    require(width % heads == 0, "config 'num_attention_heads'", heads, f"a divisor of hidden_size ({width})")
    config.fixed("hidden_act", "silu", "the feed-forward and the convolution use silu")
    head_dim, bias = width // heads, config.flag("attention_bias", False)
    partial = (config.raw("rope_parameters") or {}).get("partial_rotary_factor", 0.5)
    attention = Attention(
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads),
        head_dim=head_dim,
        rope=read_rope(config, config.integer("attn_rotary_emb", int(head_dim * partial))),
        qkv_bias=bias,
        out_bias=bias,
    )
    mamba = read_mamba2(config, width)
    mlp = Mlp(hidden=config.integer("intermediate_size"), bias=config.flag("mlp_bias", False))
    layers = config.layers("num_hidden_layers")
    attending = _attending(config, layers)
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=width,
        blocks=tuple(Block(mixer=attention if i in attending else mamba, ffn=mlp) for i in range(layers)),
        norm=Norm(eps=config.number("rms_norm_eps", 1e-5)),
        tied=config.flag("tie_word_embeddings", False),
        max_positions=config.integer("max_position_embeddings", None),
    )


def _attending(config: Config, layers: int) -> set[int]:
    """Which blocks attend, in the older spelling (a list of numbers) or the newer (a list of kinds)."""
    kinds = config.raw("layer_types")
    listed = config.raw("attn_layer_indices")
    if kinds is not None and listed is None:
        return attending_blocks(kinds, layers)
    return set(config.integers("attn_layer_indices", (), most=layers - 1))


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a published config."""
    attention, mlp = first_mixer(spec, Attention), first_mlp(spec)
    return {
        "architectures": ["BambaForCausalLM"],
        "model_type": "bamba",
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "intermediate_size": mlp.hidden,
        "num_hidden_layers": len(spec.blocks),
        "attn_layer_indices": [i for i, block in enumerate(spec.blocks) if isinstance(block.mixer, Attention)],
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "attn_rotary_emb": attention.rope.dims if attention.rope else None,
        "attention_bias": attention.qkv_bias,
        "mlp_bias": mlp.bias,
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm.eps,
        "max_position_embeddings": spec.max_positions,
        "tie_word_embeddings": spec.tied,
        **write_rope(attention.rope),
        **write_mamba2(first_mixer(spec, Mamba2), spec.width),
    }


def names(spec: ModelSpec) -> Sequence[NameRule]:
    """Published names."""
    block = "model.layers.{i}"
    return [
        *outer_names(spec, "model.final_layernorm.weight"),
        rename(f"{block}.input_layernorm.weight", "blocks.{i}.mixer_norm.weight"),
        rename(f"{block}.pre_ff_layernorm.weight", "blocks.{i}.ffn_norm.weight"),
        *attention_names(f"{block}.self_attn", "blocks.{i}.mixer"),
        *mamba2_mixer_names(f"{block}.mamba"),
        *gated_mlp_names(f"{block}.feed_forward", "blocks.{i}.ffn"),
    ]


FAMILIES = (Family(name="bamba", model_types=("bamba",), spec=spec, config=config, names=names, ignored=IGNORED),)
