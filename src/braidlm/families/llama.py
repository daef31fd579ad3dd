"""Llama and Mistral (model_type "llama", "mistral"): the transformers that hybrids are compared with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import SpecError
from ..spec import Attention, Block, FactorScaling, LinearScaling, Mlp, ModelSpec, Norm, Rope, require
from .base import Family, Gguf, TensorTable, first_mixer, first_mlp, gguf_outer_metadata
from .config import Config, read_rope, write_rope
from .names import Drop, NameRule, attention_names, gated_mlp_names, gguf_outer_names, outer_names, paired_rows, rename

_ATTENTION = "blocks.{i}.mixer"
_ROPE_FACTORS = "rope_freqs.weight"


def spec(config: Config) -> ModelSpec:
    """Reads a transformers config of either kind."""
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    config.fixed("hidden_act", "silu", "the feed-forward is gated by silu")
    head_dim = config.integer("head_dim", None)
    if head_dim is None:
        require(width % heads == 0, "config 'num_attention_heads'", heads, f"a divisor of hidden_size ({width})")
        head_dim = width // heads
    bias = config.flag("attention_bias", False)
    mixer = Attention(
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads),
        head_dim=head_dim,
        rope=read_rope(config, head_dim),
        window=_window(config),
        qkv_bias=bias,
        out_bias=bias,
    )
    mlp = Mlp(hidden=config.integer("intermediate_size"), bias=config.flag("mlp_bias", False))
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=width,
        blocks=(Block(mixer=mixer, ffn=mlp),) * config.layers("num_hidden_layers"),
        norm=Norm(eps=config.number("rms_norm_eps", 1e-6)),
        tied=config.flag("tie_word_embeddings", False),
        max_positions=config.integer("max_position_embeddings", None),
    )


def _window(config: Config) -> int | None:
    """Mistral's window, which is 4096 where the key is absent and none where it is null."""
    kind = config.choice("model_type", {"llama": "llama", "mistral": "mistral"})
    return config.integer("sliding_window", None if kind == "llama" or "sliding_window" in config else 4096)


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a transformers config: Mistral's where attention has a window."""
    mixer, mlp = first_mixer(spec, Attention), first_mlp(spec)
    kind = "llama" if mixer.window is None else "mistral"
    return {
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "model_type": kind,
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "intermediate_size": mlp.hidden,
        "num_hidden_layers": len(spec.blocks),
        "num_attention_heads": mixer.heads,
        "num_key_value_heads": mixer.kv_heads,
        "head_dim": mixer.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm.eps,
        "max_position_embeddings": spec.max_positions,
        "tie_word_embeddings": spec.tied,
        **({"attention_bias": mixer.qkv_bias, "mlp_bias": mlp.bias} if kind == "llama" else {}),
        **({"sliding_window": mixer.window} if kind == "mistral" else {}),
        **write_rope(mixer.rope),
    }


def names(spec: ModelSpec) -> Sequence[NameRule]:
    """Names of the transformers layout."""
    block = "model.layers.{i}"
    return [
        *outer_names(spec, "model.norm.weight"),
        rename(f"{block}.input_layernorm.weight", "blocks.{i}.mixer_norm.weight"),
        rename(f"{block}.post_attention_layernorm.weight", "blocks.{i}.ffn_norm.weight"),
        *attention_names(f"{block}.self_attn", _ATTENTION),
        *gated_mlp_names(f"{block}.mlp", "blocks.{i}.ffn"),
        Drop(f"{block}.self_attn.rotary_emb.inv_freq"),
    ]


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    heads = fields["attention.head_count"]
    return {
        "model_type": "llama",
        "vocab_size": file.shapes["token_embd.weight"][0],
        "hidden_size": fields["embedding_length"],
        "intermediate_size": fields["feed_forward_length"],
        "num_hidden_layers": fields["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("attention.head_count_kv", heads),
        "head_dim": fields.get("attention.key_length", fields["embedding_length"] // heads),
        "rms_norm_eps": fields["attention.layer_norm_rms_epsilon"],
        "rope_theta": fields.get("rope.freq_base", 10000.0),
        "rope_scaling": _gguf_scaling(fields, file),
        "max_position_embeddings": fields.get("context_length"),
        "tie_word_embeddings": "output.weight" not in file.shapes,
        "sliding_window": fields.get("attention.sliding_window"),
        "attention_bias": "blk.0.attn_q.bias" in file.shapes,
        "mlp_bias": "blk.0.ffn_gate.bias" in file.shapes,
    }


def _gguf_scaling(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any] | None:
    if _ROPE_FACTORS in file.shapes:
        return {"type": "factors", "factors": file.get(_ROPE_FACTORS).tolist()}
    kind = fields.get("rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise SpecError(f"this GGUF file scales rotary positions by {kind!r}, which is not supported")
    return {"type": "linear", "factor": fields["rope.scaling.factor"]} if kind == "linear" else None


def _gguf_names(spec: ModelSpec) -> Sequence[NameRule]:
    attention = first_mixer(spec, Attention)
    sizes = {"q": attention.heads, "k": attention.kv_heads}
    rules: list[NameRule] = [
        *gguf_outer_names(spec),
        rename("blk.{i}.ffn_norm.weight", "blocks.{i}.ffn_norm.weight"),
        Drop(_ROPE_FACTORS),  # part of the description
    ]
    for kind in ("weight", "bias"):
        for part, heads in sizes.items():
            rules.append(paired_rows(f"blk.{{i}}.attn_{part}.{kind}", f"{_ATTENTION}.{part}_proj.{kind}", heads))
        rules.append(rename(f"blk.{{i}}.attn_v.{kind}", f"{_ATTENTION}.v_proj.{kind}"))
        rules.append(rename(f"blk.{{i}}.attn_output.{kind}", f"{_ATTENTION}.o_proj.{kind}"))
        for part in ("gate", "up", "down"):
            rules.append(rename(f"blk.{{i}}.ffn_{part}.{kind}", f"blocks.{{i}}.ffn.{part}_proj.{kind}"))
    return rules


def _gguf_metadata(spec: ModelSpec) -> dict[str, Any]:
    mixer = first_mixer(spec, Attention)
    rope = mixer.rope or Rope(base=10000.0, dims=mixer.head_dim)
    # A window is not written, and so refused: other readers of these files see every key all the same.
    metadata = gguf_outer_metadata(spec) | {
        "feed_forward_length": first_mlp(spec).hidden,
        "attention.head_count": mixer.heads,
        "attention.head_count_kv": mixer.kv_heads,
        "attention.key_length": mixer.head_dim,
        "attention.value_length": mixer.v_dim,
        "rope.dimension_count": rope.dims,
        "rope.freq_base": rope.base,
    }
    if isinstance(rope.scaling, LinearScaling):
        metadata |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope.scaling.factor}
    return metadata


def _gguf_tensors(spec: ModelSpec) -> dict[str, Tensor]:
    rope = first_mixer(spec, Attention).rope
    if rope is None or not isinstance(rope.scaling, FactorScaling):
        return {}
    return {_ROPE_FACTORS: torch.tensor(rope.scaling.factors, device="cpu")}


FAMILIES = (
    Family(
        name="llama",
        model_types=("llama", "mistral"),
        spec=spec,
        config=config,
        names=names,
        gguf=Gguf(arch="llama", config=_gguf_config, names=_gguf_names, metadata=_gguf_metadata, tensors=_gguf_tensors),
    ),
)
