"""StripedHyena (Hessian and Nous 7B), as in their Hugging Face repositories; never run as remote code."""

from collections.abc import Sequence
from typing import Any

from ..spec import Attention, Block, Hyena, LinearScaling, Mlp, ModelSpec, Norm, Rope, attention_of, require
from .base import Family, first_mixer, first_mlp
from .config import Config
from .names import Alias, Drop, NameRule, rename, reshape, split

IGNORED = frozenset(
    """column_split inference_mode log_intermediate_values make_vocab_size_divisible_by mlp_init_method
    mlp_output_init_method model_parallel_size pipe_parallel_size prefill_style smeared_gqa
    split_k0 use_flash_attn use_flash_attention_2 use_flash_depthwise use_flash_rmsnorm
    use_flashfft num_filters hyena_layer_idxs""".split()
)


def spec(config: Config) -> ModelSpec:
    """Reads a published config. `hyena_layer_idxs` may name blocks that do not exist and is not used."""
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    require(width % heads == 0, "config 'num_attention_heads'", heads, f"a divisor of hidden_size ({width})")
    config.fixed("final_norm", True, "every published model has it")
    config.fixed("short_filter_bias", True, "every published model has it")
    share = config.integer("hyena_filter_groups", 1)
    hyena = Hyena(
        d_state=config.integer("state_size"),
        filters=width // share,
        conv=config.integer("short_filter_length"),
        heads=heads if config.flag("column_split_hyena", True) else None,
    )
    interpolated = config.flag("use_interpolated_rotary_pos_emb", False)
    factor = config.number("rotary_emb_scaling_factor", 1.0)
    head_dim = width // heads
    attention = Attention(
        heads=heads,
        kv_heads=heads // config.integer("proj_groups", 1),
        head_dim=head_dim,
        rope=Rope(
            base=config.number("rotary_emb_base", 10000.0),
            dims=head_dim,
            scaling=LinearScaling(factor=factor) if interpolated else None,
        ),
        qkv_bias=config.flag("qkv_proj_bias", False),
        out_bias=config.flag("mha_out_proj_bias", False),
    )
    layers = config.layers("num_layers")
    attending = set(config.integers("attn_layer_idxs", most=layers - 1))
    activation = config.choice("mlp_activation", {"silu": "silu", "gelu": "gelu"}, "silu")
    mlp = Mlp(hidden=config.integer("inner_mlp_size"), activation=activation)
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=width,
        blocks=tuple(Block(mixer=attention if i in attending else hyena, ffn=mlp) for i in range(layers)),
        norm=Norm(eps=config.number("eps", 1e-5), eps_outside_root=True),
        tied=config.flag("tie_embeddings", False),
        max_positions=config.integer("max_seqlen", None),
    )


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a published config."""
    attention, hyena, mlp = first_mixer(spec, Attention), first_mixer(spec, Hyena), first_mlp(spec)
    scaling = attention.rope.scaling if attention.rope else None
    indices = [i for i, block in enumerate(spec.blocks) if attention_of(block.mixer)]
    return {
        "architectures": ["StripedHyenaModelForCausalLM"],
        "model_type": "stripedhyena",
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "num_layers": len(spec.blocks),
        "attn_layer_idxs": indices,
        "hyena_layer_idxs": [i for i in range(len(spec.blocks)) if i not in indices],
        "num_attention_heads": attention.heads,
        "proj_groups": attention.heads // attention.kv_heads,
        "rotary_emb_base": attention.rope.base if attention.rope else None,
        "use_interpolated_rotary_pos_emb": scaling is not None,
        "rotary_emb_scaling_factor": scaling.factor if isinstance(scaling, LinearScaling) else 1.0,
        "qkv_proj_bias": attention.qkv_bias,
        "mha_out_proj_bias": attention.out_bias,
        "state_size": hyena.d_state,
        "hyena_filter_groups": spec.width // hyena.filters,
        "num_filters": spec.width,
        "short_filter_length": hyena.conv,
        "short_filter_bias": True,
        "column_split_hyena": hyena.heads is not None,
        "inner_mlp_size": mlp.hidden,
        "mlp_activation": mlp.activation,
        "eps": spec.norm.eps,
        "final_norm": True,
        "max_seqlen": spec.max_positions,
        "tie_embeddings": spec.tied,
    }


def names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of the Hugging Face files; the standalone file of the base model lacks the prefix "backbone."."""
    block, target = "backbone.blocks.{i}", "blocks.{i}"
    mixer = f"{target}.mixer"
    qkv = [f"{mixer}.{part}_proj" for part in "qkv"]
    attention = f"{block}.inner_mha_cls"
    rules = [
        rename("backbone.embedding_layer.weight", "embed.weight"),
        rename("backbone.norm.scale", "norm.weight"),
        rename(f"{block}.pre_norm.scale", f"{target}.mixer_norm.weight"),
        rename(f"{block}.post_norm.scale", f"{target}.ffn_norm.weight"),
        rename(f"{block}.mlp.l1.weight", f"{target}.ffn.gate_proj.weight"),
        rename(f"{block}.mlp.l2.weight", f"{target}.ffn.up_proj.weight"),
        rename(f"{block}.mlp.l3.weight", f"{target}.ffn.down_proj.weight"),
        rename(f"{block}.projections.weight", f"{mixer}.in_proj.weight"),
        rename(f"{block}.projections.bias", f"{mixer}.in_proj.bias"),
        rename(f"{block}.filter.short_filter_weight", f"{mixer}.conv.weight"),
        rename(f"{block}.filter.short_filter_bias", f"{mixer}.conv.bias"),
        rename(f"{block}.filter.D", f"{mixer}.d"),
        # The file's third dimension of one is a placeholder for time.
        reshape(f"{block}.filter.poles", f"{mixer}.poles", 0, 0, 1, 2),
        reshape(f"{block}.filter.residues", f"{mixer}.residues", 0, 0, 1, 2),
        rename(f"{block}.out_filter_dense.weight", f"{mixer}.out_proj.weight"),
        rename(f"{block}.out_filter_dense.bias", f"{mixer}.out_proj.bias"),
        split(f"{attention}.Wqkv.weight", *(f"{part}.weight" for part in qkv)),
        split(f"{attention}.Wqkv.bias", *(f"{part}.bias" for part in qkv)),
        rename(f"{attention}.out_proj.weight", f"{mixer}.o_proj.weight"),
        rename(f"{attention}.out_proj.bias", f"{mixer}.o_proj.bias"),
    ]
    # A saved buffer, rounded to bf16 there; frequencies are computed from the base instead.
    buffer = Drop(f"{attention}.rotary_emb.inv_freq")
    head = "backbone.unembed.weight"
    last = Alias(head, "embed.weight") if spec.tied else rename(head, "head.weight")
    return [*rules, buffer, last]


FAMILIES = (
    Family(
        name="stripedhyena",
        model_types=("stripedhyena",),
        spec=spec,
        config=config,
        names=names,
        ignored=IGNORED,
    ),
)
