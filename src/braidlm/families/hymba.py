"""Hymba-1.5B (model_type "hymba"), as in its Hugging Face repository; never run as remote code.

Attention and Mamba heads in every block, learned meta tokens in front, three global layers, keys
and values shared by neighbouring blocks. Their `in_proj` stacks [q | k | v | x | z]; blocks that
use another's keys and values have no k and v rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SpecError
from ..spec import Attention, Block, Mamba, Mlp, ModelSpec, Norm, NtkScaling, Parallel, Rope, require
from .base import Family, first_mlp
from .config import Config
from .names import Alias, NameRule, rename, split

IGNORED = frozenset(
    """attn_hidden_size attn_implementation_new calc_logits_for_entire_prompt conv_dim kq_head_dim
    output_router_logits router_aux_loss_coef seq_length use_mamba_kernels v_head_dim
    num_experts_per_tok""".split()
)


def _owners(groups: Any, layers: int) -> dict[int, int]:
    """Earlier block that each consumer takes its keys and values from."""
    owners: dict[int, int] = {}
    for group in groups:
        ok = isinstance(group, (list, tuple)) and all(isinstance(i, int) and 0 <= i < layers for i in group)
        if not ok or list(group) != sorted(set(group)):
            raise SpecError(
                f"config 'kv_reuse_group' has {group!r}, but must list increasing block numbers below {layers}"
            )
        owners.update(dict.fromkeys(group[1:], group[0]))
    return owners


def _rope(config: Config, dims: int) -> Rope | None:
    if not config.flag("rope", True):
        return None
    kind = config.choice("rope_type", {"ntk": "ntk", "default": "default"}, "default")
    longest = config.integer("max_position_embeddings")
    original = config.integer("orig_max_position_embeddings", longest)
    scaling = NtkScaling(factor=2 * longest / original - 1) if kind == "ntk" else None
    return Rope(base=config.number("rope_theta", 10000.0), dims=dims, scaling=scaling)


def _fixed(config: Config, layers: int) -> None:
    """Settings of the published code that no released model uses otherwise."""
    config.fixed("num_mamba", 1, "one state-space branch a block")
    config.fixed("num_experts", 1, "a plain feed-forward")
    config.fixed("memory_tokens_interspersed_every", 0, "meta tokens only in front")
    config.fixed("kq_norm", "none", "queries and keys are not normed")
    config.fixed("kv_reuse_every_i_layer", -1, "groups are listed in kv_reuse_group")
    config.fixed("kv_weight_reuse", False, "keys and values are shared, not their weights")
    config.fixed("layer_type", ["h"] * layers, "every block is hybrid")
    config.fixed("hidden_act", "silu", "the gate uses silu")
    config.fixed("mlp_hidden_act", "silu", "the feed-forward uses silu")


def spec(config: Config) -> ModelSpec:
    """Reads a published config. Value heads are inner / heads wide, whatever `v_head_dim` says."""
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    require(width % heads == 0, "config 'num_attention_heads'", heads, f"a divisor of hidden_size ({width})")
    layers = config.layers("num_hidden_layers")
    _fixed(config, layers)
    inner = config.integer("mamba_expand", 2) * width
    meta = config.integer("num_memory_tokens", 0, least=0)
    owners = _owners(config.raw("kv_reuse_group") or [], layers)
    everywhere = set(config.integers("global_attn_idx", (), most=layers - 1))
    rope = _rope(config, width // heads)
    window = config.integer("sliding_window", None)
    ssm = Mamba(
        inner=inner,
        d_state=config.integer("mamba_d_state", 16),
        dt_rank=config.integer("mamba_dt_rank"),
        conv=config.integer("mamba_d_conv", 4),
        conv_bias=config.flag("mamba_conv_bias", True),
        proj_bias=config.flag("mamba_proj_bias", False),
        inner_norms=config.flag("mamba_inner_layernorms", True),
    )
    require(not ssm.proj_bias, "config 'mamba_proj_bias'", True, "false (no published model has it)")
    kv_heads = config.integer("num_key_value_heads", heads)
    mlp = Mlp(hidden=config.integer("intermediate_size"))

    def block(index: int) -> Block:
        local = window is not None and index not in everywhere
        attention = Attention(
            heads=heads,
            kv_heads=kv_heads,
            head_dim=width // heads,
            value_dim=inner // heads,
            rope=rope,
            window=window + 1 if local else None,  # the published one counts the keys before the query
            sink_tokens=meta if local else 0,
            kv_from=owners.get(index),
        )
        return Block(mixer=Parallel(attention=attention, ssm=ssm), ffn=mlp)

    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=width,
        blocks=tuple(block(index) for index in range(layers)),
        norm=Norm(eps=config.number("rms_norm_eps")),
        tied=config.flag("tie_word_embeddings", False),
        meta_tokens=meta,
        max_positions=config.integer("max_position_embeddings"),
    )


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a published config."""
    mixers = [block.mixer for block in spec.blocks if isinstance(block.mixer, Parallel)]
    if len(mixers) < len(spec.blocks) or not isinstance(mixers[0].ssm, Mamba):
        raise SpecError("the blocks must be attention and Mamba in parallel")
    attentions = [mixer.attention for mixer in mixers]
    ssm, mlp = mixers[0].ssm, first_mlp(spec)
    groups: dict[int, list[int]] = {}
    for index, attention in enumerate(attentions):
        if attention.kv_from is not None:
            groups.setdefault(attention.kv_from, [attention.kv_from]).append(index)
    windows = [attention.window - 1 for attention in attentions if attention.window]
    return {
        "architectures": ["HymbaForCausalLM"],
        "model_type": "hymba",
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "num_hidden_layers": len(spec.blocks),
        "layer_type": ["h"] * len(spec.blocks),
        "num_attention_heads": attentions[0].heads,
        "num_key_value_heads": attentions[0].kv_heads,
        "v_head_dim": attentions[0].v_dim,
        "global_attn_idx": [i for i, attention in enumerate(attentions) if attention.window is None],
        "sliding_window": windows[0] if windows else None,
        "attn_implementation": "flex",
        "kv_reuse_group": list(groups.values()),
        "num_memory_tokens": spec.meta_tokens,
        "mamba_expand": ssm.inner // spec.width,
        "mamba_d_state": ssm.d_state,
        "mamba_dt_rank": ssm.dt_rank,
        "mamba_d_conv": ssm.conv,
        "mamba_conv_bias": ssm.conv_bias,
        "mamba_inner_layernorms": ssm.inner_norms,
        "mamba_proj_bias": False,
        "num_mamba": 1,
        "intermediate_size": mlp.hidden,
        "hidden_act": "silu",
        "mlp_hidden_act": "silu",
        "num_experts": 1,
        "rms_norm_eps": spec.norm.eps,
        "tie_word_embeddings": spec.tied,
        **_rope_keys(attentions[0].rope, spec.max_positions),
    }


def _rope_keys(rope: Rope | None, longest: int | None) -> Mapping[str, Any]:
    keys: dict[str, Any] = {"rope": rope is not None, "max_position_embeddings": longest}
    if rope is not None:
        keys["rope_theta"] = rope.base
        keys["rope_type"] = "ntk" if isinstance(rope.scaling, NtkScaling) else "default"
    if rope is not None and isinstance(rope.scaling, NtkScaling) and longest is not None:
        keys["orig_max_position_embeddings"] = round(2 * longest / (rope.scaling.factor + 1))
    return keys


def names(spec: ModelSpec) -> Sequence[NameRule]:
    """Name rules of the published layout; the ".0" come from one-element lists."""
    block, target = "model.layers.{i}", "blocks.{i}"
    source, mixer = f"{block}.mamba", f"{target}.mixer"
    attention, ssm = f"{mixer}.attention", f"{mixer}.ssm"
    stacked = [f"{attention}.{part}_proj.weight" for part in "qkv"] + [f"{ssm}.in_proj.weight"]
    rules = [
        rename("model.embed_tokens.weight", "embed.weight"),
        rename("model.memory_tokens", "prefix"),
        rename("model.final_layernorm.weight", "norm.weight"),
        rename(f"{block}.input_layernorm.weight", f"{target}.mixer_norm.weight"),
        rename(f"{block}.pre_moe_layernorm.weight", f"{target}.ffn_norm.weight"),
        split(f"{source}.in_proj.weight", *stacked),
        rename(f"{source}.conv1d.weight", f"{ssm}.conv.weight"),
        rename(f"{source}.conv1d.bias", f"{ssm}.conv.bias"),
        rename(f"{source}.x_proj.0.weight", f"{ssm}.x_proj.weight"),
        rename(f"{source}.dt_proj.0.weight", f"{ssm}.dt_proj.weight"),
        rename(f"{source}.dt_proj.0.bias", f"{ssm}.dt_bias"),
        rename(f"{source}.A_log.0", f"{ssm}.a_log"),
        rename(f"{source}.D.0", f"{ssm}.d"),
        rename(f"{source}.dt_layernorm.weight", f"{ssm}.dt_norm.weight"),
        rename(f"{source}.B_layernorm.weight", f"{ssm}.b_norm.weight"),
        rename(f"{source}.C_layernorm.weight", f"{ssm}.c_norm.weight"),
        rename(f"{source}.pre_avg_layernorm1.weight", f"{mixer}.attention_norm.weight"),
        rename(f"{source}.pre_avg_layernorm2.weight", f"{mixer}.ssm_norm.weight"),
        rename(f"{source}.out_proj.weight", f"{mixer}.out_proj.weight"),
    ]
    for part in ("gate_proj", "up_proj", "down_proj"):
        rules.append(rename(f"{block}.moe.experts.0.{part}.weight", f"{target}.ffn.{part}.weight"))
    head = "lm_head.weight"
    return [*rules, Alias(head, "embed.weight") if spec.tied else rename(head, "head.weight")]


FAMILIES = (Family(name="hymba", model_types=("hymba",), spec=spec, config=config, names=names, ignored=IGNORED),)
