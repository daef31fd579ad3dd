"""Dense Granite (model_type "granite"): a Llama with four multipliers, as in Granite 3 and 4.1.

GGUF files of this architecture also hold the dense models of Granite 4.0, whose Hugging Face files are of model_type
"granitemoehybrid".
"""

from collections.abc import Mapping
from typing import Any

from ..errors import SpecError
from ..spec import Attention, Block, Mlp, ModelSpec, Norm
from .base import Family, Gguf, TensorTable, first_mixer, first_mlp
from .config import Config
from .gguf_values import flag
from .granite_common import gguf_multipliers, gguf_scales, read_multipliers, write_multipliers
from .rope import read_positions
from .transformer_common import (
    gguf_transformer_config,
    gguf_transformer_metadata,
    gguf_transformer_names,
    gguf_transformer_tensors,
    read_attention,
    transformer_names,
    write_transformer,
)


def spec(config: Config) -> ModelSpec:
    """Reads a transformers config."""
    config.fixed("hidden_act", "silu", "the feed-forward is gated by silu")
    scales, bias = read_multipliers(config), config.flag("attention_bias", False)
    mixer = read_attention(config, None, scale=scales.attention, qkv_bias=bias, out_bias=bias)
    mlp = Mlp(hidden=config.integer("intermediate_size"), bias=config.flag("mlp_bias", False))
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=config.integer("hidden_size"),
        blocks=(Block(mixer=mixer, ffn=mlp, residual_scale=scales.residual),) * config.layers("num_hidden_layers"),
        norm=Norm(eps=config.number("rms_norm_eps", 1e-6)),
        tied=config.flag("tie_word_embeddings", False),
        embed_scale=scales.embedding,
        logit_scale=1.0 / scales.logits,
        max_positions=read_positions(config, mixer.rope),
    )


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a transformers config."""
    mixer = first_mixer(spec, Attention)
    return {
        "architectures": ["GraniteForCausalLM"],
        "model_type": "granite",
        **write_transformer(spec),
        **write_multipliers(spec, mixer),
        "attention_bias": mixer.qkv_bias,
        "mlp_bias": first_mlp(spec).bias,
    }


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    if not flag(fields, "rope.scaling.finetuned", True):
        raise SpecError("this GGUF file holds a dense Granite without rotary positions, which is not supported")
    return {"model_type": "granite", **gguf_transformer_config(fields, file), **gguf_multipliers(fields)}


def _gguf_metadata(spec: ModelSpec) -> dict[str, Any]:
    return gguf_transformer_metadata(spec) | gguf_scales(spec, first_mixer(spec, Attention))


FAMILIES = (
    Family(
        name="granite",
        model_types=("granite",),
        spec=spec,
        config=config,
        names=transformer_names,
        gguf=Gguf(
            arch="granite",
            config=_gguf_config,
            names=gguf_transformer_names,
            metadata=_gguf_metadata,
            tensors=gguf_transformer_tensors,
        ),
    ),
)
