"""Bamba (model_type "bamba"): Mamba-2 with a few rotary attention blocks, a gated MLP in each."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SpecError
from ..spec import Attention, Block, Mamba2, Mlp, ModelSpec, Norm, Rope, require
from .base import Family, Gguf, TensorTable, first_mixer, first_mlp
from .config import Config, attending_blocks
from .gguf_hybrid import attending_gguf_blocks, gguf_hybrid_config, gguf_hybrid_names, has_positions, has_scales
from .mamba_common import mamba2_mixer_names, read_mamba2, write_mamba2
from .names import NameRule, attention_names, gated_mlp_names, outer_names, rename
from .rope import read_positions, read_rope, rope_settings, write_positions, write_rope

# Where the config is silent.
_SHARE, _KV_HEADS = 0.5, 8
IGNORED = frozenset(["mamba_chunk_size", "num_logits_to_keep", "use_mamba_kernels", "z_loss_coefficient"])


def spec(config: Config) -> ModelSpec:
    """Reads a published config."""
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    require(width % heads == 0, "config 'num_attention_heads'", heads, f"a divisor of hidden_size ({width})")
    config.fixed("hidden_act", "silu", "the feed-forward and the convolution use silu")
    bias = config.flag("attention_bias", False)
    attention = Attention(
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads if "num_key_value_heads" in config else _KV_HEADS),
        head_dim=width // heads,
        rope=_rope(config, width // heads),
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
        max_positions=read_positions(config, attention.rope),
    )


def _rope(config: Config, head_dim: int) -> Rope:
    """Reads rotary settings: half of each head rotates, unless `rope_parameters` says another part.

    It is the only key that transformers heeds.
    """
    share = rope_settings(config).number("partial_rotary_factor", _SHARE)
    dims = int(head_dim * share)
    config.overruled("attn_rotary_emb", "partial_rotary_factor", dims)
    return read_rope(config, dims, share=share)


def _attending(config: Config, layers: int) -> set[int]:
    """Numbers of the blocks that attend, in the older spelling (a list of numbers) or the newer (a list of kinds)."""
    kinds = config.raw("layer_types")
    listed = config.raw("attn_layer_indices")
    found = set(config.integers("attn_layer_indices", (), most=layers - 1))
    if kinds is None:
        return found
    attending = attending_blocks(kinds, layers)
    if listed is not None and found != attending:
        raise SpecError(f"config 'layer_types' has attention in {sorted(attending)}, 'attn_layer_indices' {listed}")
    return attending


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
        "max_position_embeddings": write_positions(spec.max_positions, attention.rope),
        "tie_word_embeddings": spec.tied,
        **_write_rope(attention),
        **write_mamba2(first_mixer(spec, Mamba2), spec.width),
    }


def names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of the published layout."""
    block = "model.layers.{i}"
    return [
        *outer_names(spec, "model.final_layernorm.weight"),
        rename(f"{block}.input_layernorm.weight", "blocks.{i}.mixer_norm.weight"),
        rename(f"{block}.pre_ff_layernorm.weight", "blocks.{i}.ffn_norm.weight"),
        *attention_names(f"{block}.self_attn", "blocks.{i}.mixer"),
        *mamba2_mixer_names(f"{block}.mamba"),
        *gated_mlp_names(f"{block}.feed_forward", "blocks.{i}.ffn"),
    ]


def _write_rope(attention: Attention) -> dict[str, Any]:
    """Rotary keys, in the newer spelling where another part than half of each head rotates."""
    keys = write_rope(attention.rope)
    if attention.rope is None or attention.rope.dims == int(attention.head_dim * _SHARE):
        return keys
    share = attention.rope.dims / attention.head_dim
    scaling = keys.pop("rope_scaling") or {"rope_type": "default"}
    return keys | {"rope_parameters": {"rope_theta": attention.rope.base, "partial_rotary_factor": share, **scaling}}


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    if not has_positions(fields):
        raise SpecError("this GGUF file holds a Bamba whose attention does not rotate, which no Bamba does")
    found = gguf_hybrid_config(fields, file)
    attending = attending_gguf_blocks(fields)
    head_dim = found["hidden_size"] // found["num_attention_heads"]
    share = fields.get("rope.dimension_count", head_dim * _SHARE) / head_dim
    scaling = found.pop("rope_scaling", {"rope_type": "default"})
    rope = {"rope_theta": found.pop("rope_theta"), "partial_rotary_factor": share, **scaling}
    return {
        "model_type": "bamba",
        **found,
        "attn_layer_indices": [i for i, attends in enumerate(attending) if attends],
        "rope_parameters": rope,
    }


def _gguf_metadata(spec: ModelSpec) -> dict[str, Any]:
    raise SpecError("readers of GGUF files rotate other pairs of a head than Bamba does")


FAMILIES = (
    Family(
        name="bamba",
        model_types=("bamba",),
        spec=spec,
        config=config,
        names=names,
        ignored=IGNORED,
        gguf=Gguf(
            arch="granitehybrid",
            matches=lambda fields: not has_scales(fields),
            config=_gguf_config,
            names=gguf_hybrid_names,
            metadata=_gguf_metadata,
        ),
    ),
)
