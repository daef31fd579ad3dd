"""Granite 4.0 (model_type "granitemoehybrid"): Tiny preview and the H models, with and without experts.

Mamba-2 with a few attention blocks without positions, a mixture of experts beside an always-on
shared MLP (or that MLP alone), and four multipliers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SpecError
from ..spec import Attention, Block, FeedForward, Mamba2, Mlp, ModelSpec, Moe, Norm, require
from .base import Family, Gguf, TensorTable, first_mixer, gguf_outer_metadata
from .config import Config, attending_blocks, read_rope, write_rope
from .mamba_common import gguf_mamba2_metadata, gguf_mamba2_names, mamba2_mixer_names, read_mamba2, write_mamba2
from .names import NameRule, attention_names, gguf_outer_names, joined, outer_names, paired_rows, rename, split

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
    rope = read_rope(config, width // heads)
    attention = Attention(
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads),
        head_dim=width // heads,
        rope=rope if positions else None,
        scale=config.number("attention_multiplier", 1.0),
        qkv_bias=bias,
        out_bias=bias,
    )
    layers = config.layers("num_hidden_layers")
    attending = attending_blocks(config.raw("layer_types", ["mamba"] * layers), layers)
    mamba = read_mamba2(config, width) if len(attending) < layers else attention
    ffn, residual = _feed_forward(config), config.number("residual_multiplier", 1.0)
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=width,
        blocks=tuple(
            Block(mixer=attention if i in attending else mamba, ffn=ffn, residual_scale=residual) for i in range(layers)
        ),
        norm=Norm(eps=config.number("rms_norm_eps", 1e-6)),
        tied=config.flag("tie_word_embeddings", False),
        embed_scale=config.number("embedding_multiplier", 1.0),
        logit_scale=1.0 / config.positive("logits_scaling", 1.0),
        max_positions=config.integer("max_position_embeddings", None),
    )


def _feed_forward(config: Config) -> FeedForward:
    shared = Mlp(hidden=config.integer("shared_intermediate_size"))
    experts = config.integer("num_local_experts", 0, least=0)
    if experts == 0:
        return shared
    return Moe(
        experts=experts,
        top_k=config.integer("num_experts_per_tok"),
        hidden=config.integer("intermediate_size"),
        shared=shared,
    )


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a published config."""
    attention, ffn = first_mixer(spec, Attention), spec.blocks[0].ffn
    shared = ffn.shared if isinstance(ffn, Moe) else ffn
    if shared is None:
        raise SpecError("every block must have a shared MLP")
    experts = ffn if isinstance(ffn, Moe) else None
    mamba = [block.mixer for block in spec.blocks if isinstance(block.mixer, Mamba2)]
    rope = write_rope(attention.rope)
    return {
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "model_type": "granitemoehybrid",
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "num_hidden_layers": len(spec.blocks),
        "layer_types": ["attention" if isinstance(block.mixer, Attention) else "mamba" for block in spec.blocks],
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "attention_multiplier": attention.scale,
        "attention_bias": attention.qkv_bias,
        "position_embedding_type": "rope" if attention.rope else "nope",
        "num_local_experts": experts.experts if experts else 0,
        "num_experts_per_tok": experts.top_k if experts else 0,
        "intermediate_size": experts.hidden if experts else shared.hidden,
        "shared_intermediate_size": shared.hidden,
        "hidden_act": "silu",
        "embedding_multiplier": spec.embed_scale,
        "residual_multiplier": spec.blocks[0].residual_scale,
        "logits_scaling": 1.0 / spec.logit_scale,
        "rms_norm_eps": spec.norm.eps,
        "max_position_embeddings": spec.max_positions,
        "tie_word_embeddings": spec.tied,
        **rope,
        **(write_mamba2(mamba[0], spec.width) if mamba else {}),
    }


def names(spec: ModelSpec) -> Sequence[NameRule]:
    """Names on disk (transformers has others for the experts in memory, see `RENAMED`)."""
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
    ]


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    if fields.get("rope.scaling.finetuned"):
        raise SpecError("this GGUF file holds a rotary variant (Bamba); load its Hugging Face directory instead")
    kv_heads = fields["attention.head_count_kv"]
    per_layer = kv_heads if isinstance(kv_heads, list) else [kv_heads] * fields["block_count"]
    width, inner = fields["embedding_length"], fields["ssm.inner_size"]
    heads = fields["attention.head_count"]
    return {
        "model_type": "granitemoehybrid",
        "vocab_size": file.shapes["token_embd.weight"][0],
        "hidden_size": width,
        "num_hidden_layers": fields["block_count"],
        "layer_types": ["attention" if n else "mamba" for n in per_layer],
        "num_attention_heads": max(heads) if isinstance(heads, list) else heads,
        "num_key_value_heads": max(per_layer),
        "attention_multiplier": fields["attention.scale"],
        "num_local_experts": fields.get("expert_count", 0),
        "num_experts_per_tok": fields.get("expert_used_count", 0),
        "intermediate_size": fields["feed_forward_length"],
        "shared_intermediate_size": fields.get("expert_shared_feed_forward_length", fields["feed_forward_length"]),
        "embedding_multiplier": fields["embedding_scale"],
        "residual_multiplier": fields["residual_scale"],
        "logits_scaling": fields["logit_scale"],
        "rms_norm_eps": fields["attention.layer_norm_rms_epsilon"],
        "max_position_embeddings": fields.get("context_length"),
        "mamba_n_heads": fields["ssm.time_step_rank"],
        "mamba_d_head": inner // fields["ssm.time_step_rank"],
        "mamba_d_state": fields["ssm.state_size"],
        "mamba_n_groups": fields["ssm.group_count"],
        "mamba_d_conv": fields["ssm.conv_kernel"],
        "mamba_expand": inner // width,
        "tie_word_embeddings": "output.weight" not in file.shapes,
    }


def _gguf_names(spec: ModelSpec) -> Sequence[NameRule]:
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


def _gguf_metadata(spec: ModelSpec) -> dict[str, Any]:
    attention, ffn = first_mixer(spec, Attention), spec.blocks[0].ffn
    if ffn is None:
        raise SpecError("every block must have a feed-forward")
    kv_heads = [block.mixer.kv_heads if isinstance(block.mixer, Attention) else 0 for block in spec.blocks]
    metadata = gguf_outer_metadata(spec) | gguf_mamba2_metadata(first_mixer(spec, Mamba2))
    metadata |= {
        "feed_forward_length": ffn.hidden,
        "attention.head_count": attention.heads,
        "attention.head_count_kv": kv_heads,
        "attention.scale": attention.scale or attention.head_dim**-0.5,
        "rope.dimension_count": attention.head_dim,
        "rope.scaling.finetuned": attention.rope is not None,
        "embedding_scale": spec.embed_scale,
        "residual_scale": spec.blocks[0].residual_scale,
        "logit_scale": 1.0 / spec.logit_scale,
    }
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
        gguf=Gguf(arch="granitehybrid", config=_gguf_config, names=_gguf_names, metadata=_gguf_metadata),
    ),
)
