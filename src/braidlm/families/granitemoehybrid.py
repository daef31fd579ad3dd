"""Granite 4.0 (model_type "granitemoehybrid"): Tiny preview, the H models, and the dense ones.

Mamba-2 with a few attention blocks without positions (dense: attention with rotary positions in every block), a
mixture of experts beside an always-on shared MLP (or one of the two alone), and four multipliers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SpecError
from ..spec import Attention, Block, FeedForward, Mamba2, Mlp, ModelSpec, Moe, Norm, require
from .base import Family, Gguf, TensorTable, first_mixer
from .config import Config, attending_blocks
from .gguf_hybrid import (
    attending_gguf_blocks,
    gguf_hybrid_config,
    gguf_hybrid_metadata,
    gguf_hybrid_names,
    has_positions,
    has_scales,
)
from .granite_common import gguf_multipliers, gguf_scales, read_multipliers, write_multipliers
from .mamba_common import mamba2_mixer_names, read_mamba2, write_mamba2
from .names import Drop, NameRule, attention_names, outer_names, rename, split
from .rope import read_positions, read_rope, write_positions, write_rope

IGNORED = frozenset(
    """mamba_chunk_size init_method normalization_function output_router_logits router_aux_loss_coef
    num_experts_per_tok intermediate_size""".split()
)
RENAMED = {
    "block_sparse_moe.router.layer.weight": "block_sparse_moe.router.weight",
    "block_sparse_moe.input_linear.weight": "block_sparse_moe.experts.gate_up_proj",
    "block_sparse_moe.output_linear.weight": "block_sparse_moe.experts.down_proj",
}


def spec(config: Config) -> ModelSpec:
    """Reads a published config; block kinds in either spelling."""
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    require(width % heads == 0, "config 'num_attention_heads'", heads, f"a divisor of hidden_size ({width})")
    config.fixed("hidden_act", "silu", "feed-forwards and convolution use silu")
    positions = config.choice("position_embedding_type", {"nope": False, "rope": True}, "nope")
    bias = config.flag("attention_bias", False)
    rope, scales = read_rope(config, width // heads), read_multipliers(config)
    attention = Attention(
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads),
        head_dim=width // heads,
        rope=rope if positions else None,
        scale=scales.attention,
        qkv_bias=bias,
        out_bias=bias,
    )
    layers = config.layers("num_hidden_layers")
    attending, ffn = _attending(config, layers), _feed_forward(config)
    if len(attending) < layers:
        mamba = read_mamba2(config, width)
    else:
        config.unused([*config.beginning("mamba_"), "time_step_limit"])
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=width,
        blocks=tuple(
            Block(mixer=attention if i in attending else mamba, ffn=ffn, residual_scale=scales.residual)
            for i in range(layers)
        ),
        norm=Norm(eps=config.number("rms_norm_eps", 1e-6)),
        tied=config.flag("tie_word_embeddings", False),
        embed_scale=scales.embedding,
        logit_scale=1.0 / scales.logits,
        max_positions=read_positions(config, attention.rope),
    )


def _attending(config: Config, layers: int) -> set[int]:
    """Mask of the blocks that attend; the key has two names, and none of them does where it is absent."""
    kinds = config.raw("layer_types") or config.raw("layers_block_type", ["mamba"] * layers)
    config.overruled("layers_block_type", "layer_types", kinds)
    return attending_blocks(kinds, layers)


def _feed_forward(config: Config) -> FeedForward:
    hidden = config.integer("shared_intermediate_size", config.silent("shared_intermediate_size", 1024), least=0)
    shared = Mlp(hidden=hidden) if hidden else None
    experts = config.integer("num_local_experts", config.silent("num_local_experts", 8), least=0)
    if experts == 0:
        require(shared is not None, "config 'shared_intermediate_size'", 0, "above zero where there are no experts")
        assert shared is not None
        return shared
    return Moe(
        experts=experts,
        top_k=config.integer("num_experts_per_tok", config.silent("num_experts_per_tok", 2)),
        hidden=config.integer("intermediate_size"),
        shared=shared,
    )


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a published config."""
    attention, ffn = first_mixer(spec, Attention), spec.blocks[0].ffn
    if ffn is None:
        raise SpecError("every block must have a feed-forward")
    shared = ffn.shared if isinstance(ffn, Moe) else ffn
    experts = ffn if isinstance(ffn, Moe) else None
    mamba = [block.mixer for block in spec.blocks if isinstance(block.mixer, Mamba2)]
    return {
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "model_type": "granitemoehybrid",
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "num_hidden_layers": len(spec.blocks),
        "layer_types": ["attention" if isinstance(block.mixer, Attention) else "mamba" for block in spec.blocks],
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "attention_bias": attention.qkv_bias,
        "position_embedding_type": "rope" if attention.rope else "nope",
        "num_local_experts": experts.experts if experts else 0,
        "num_experts_per_tok": experts.top_k if experts else 0,
        "intermediate_size": experts.hidden if experts else ffn.hidden,
        "shared_intermediate_size": shared.hidden if shared else 0,
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm.eps,
        "max_position_embeddings": write_positions(spec.max_positions, attention.rope),
        **write_multipliers(spec, attention),
        "tie_word_embeddings": spec.tied,
        **write_rope(attention.rope),
        **(write_mamba2(mamba[0], spec.width) if mamba else {}),
    }


def names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of the layout on disk (transformers has others for the experts in memory, see `RENAMED`)."""
    block, ffn = "model.layers.{i}", "blocks.{i}.ffn"
    moe = any(isinstance(b.ffn, Moe) for b in spec.blocks)
    shared = f"{ffn}.shared" if moe else ffn
    return [
        *outer_names(spec, "model.norm.weight"),
        rename(f"{block}.input_layernorm.weight", "blocks.{i}.mixer_norm.weight"),
        rename(f"{block}.post_attention_layernorm.weight", "blocks.{i}.ffn_norm.weight"),
        *attention_names(f"{block}.self_attn", "blocks.{i}.mixer"),
        *mamba2_mixer_names(f"{block}.mamba"),
        split(f"{block}.shared_mlp.input_linear.weight", f"{shared}.gate_proj.weight", f"{shared}.up_proj.weight"),
        rename(f"{block}.shared_mlp.output_linear.weight", f"{shared}.down_proj.weight"),
        rename(f"{block}.block_sparse_moe.router.layer.weight", f"{ffn}.router"),
        rename(f"{block}.block_sparse_moe.input_linear.weight", f"{ffn}.gate_up"),
        rename(f"{block}.block_sparse_moe.output_linear.weight", f"{ffn}.down"),
        # A shared MLP of size 0 is in the file all the same.
        *(Drop(f"{block}.shared_mlp.{part}_linear.weight") for part in ("input", "output") if _is_bare(spec)),
    ]


def _is_bare(spec: ModelSpec) -> bool:
    """Whether there are experts without a shared MLP."""
    ffn = spec.blocks[0].ffn
    return isinstance(ffn, Moe) and ffn.shared is None


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    experts = fields.get("expert_count", 0)
    return {
        "model_type": "granitemoehybrid",
        **gguf_hybrid_config(fields, file),
        **gguf_multipliers(fields),
        "layer_types": ["attention" if attends else "mamba" for attends in attending_gguf_blocks(fields)],
        "position_embedding_type": "rope" if has_positions(fields) else "nope",
        "num_local_experts": experts,
        "num_experts_per_tok": fields.get("expert_used_count", 0),
        "shared_intermediate_size": fields.get(
            "expert_shared_feed_forward_length", 0 if experts else fields["feed_forward_length"]
        ),
    }


def _gguf_metadata(spec: ModelSpec) -> dict[str, Any]:
    ffn = spec.blocks[0].ffn
    metadata = gguf_hybrid_metadata(spec) | gguf_scales(spec, first_mixer(spec, Attention))
    if isinstance(ffn, Moe):
        metadata |= {"expert_count": ffn.experts, "expert_used_count": ffn.top_k}
        metadata["expert_shared_feed_forward_length"] = ffn.shared.hidden if ffn.shared else 0
    return metadata


FAMILIES = (
    Family(
        name="granitemoehybrid",
        model_types=("granitemoehybrid",),
        spec=spec,
        config=config,
        names=names,
        ignored=IGNORED,
        renamed=RENAMED,
        gguf=Gguf(
            arch="granitehybrid",
            matches=has_scales,
            config=_gguf_config,
            names=gguf_hybrid_names,
            metadata=_gguf_metadata,
        ),
    ),
)
