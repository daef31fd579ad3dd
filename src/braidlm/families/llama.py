"""Llama and Mistral (model_type "llama", "mistral"): the transformers that hybrids are compared with."""

from collections.abc import Mapping
from typing import Any

from ..errors import SpecError
from ..spec import Attention, Block, Mlp, ModelSpec, Norm
from .base import Family, Gguf, TensorTable, first_mixer, first_mlp
from .config import Config
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

_MISTRAL_WINDOW, _MISTRAL_KV_HEADS = 4096, 8  # where its config is silent


def spec(config: Config) -> ModelSpec:
    """Reads a transformers config of either kind."""
    mistral = config.choice("model_type", {"llama": False, "mistral": True})
    config.fixed("hidden_act", "silu", "the feed-forward is gated by silu")
    bias = False if mistral else config.flag("attention_bias", False)
    window = _window(config, mistral)
    kv_heads = _MISTRAL_KV_HEADS if mistral else None
    mixer = read_attention(config, kv_heads, window=window, qkv_bias=bias, out_bias=bias)
    mlp = Mlp(hidden=config.integer("intermediate_size"), bias=not mistral and config.flag("mlp_bias", False))
    return ModelSpec(
        vocab=config.integer("vocab_size"),
        width=config.integer("hidden_size"),
        blocks=(Block(mixer=mixer, ffn=mlp),) * config.layers("num_hidden_layers"),
        norm=Norm(eps=config.number("rms_norm_eps", 1e-6)),
        tied=config.flag("tie_word_embeddings", False),
        max_positions=read_positions(config, mixer.rope),
    )


def _window(config: Config, mistral: bool) -> int | None:
    """Mistral's window, which is none where it is null. A Llama has none, and must not be told to have one."""
    if mistral:
        window: int | None = config.integer("sliding_window", None if "sliding_window" in config else _MISTRAL_WINDOW)
        return window
    if config.raw("sliding_window") is not None and config.flag("use_sliding_window", True):
        raise SpecError(
            f"config 'sliding_window' is {config.raw('sliding_window')!r}, but a Llama has no window; "
            "a model with one is of model_type 'mistral'"
        )
    config.unused(["sliding_window", "use_sliding_window"])
    return None


def config(spec: ModelSpec) -> dict[str, Any]:
    """Writes a transformers config: Mistral's where attention has a window."""
    mixer, mlp = first_mixer(spec, Attention), first_mlp(spec)
    kind = "llama" if mixer.window is None else "mistral"
    return {
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "model_type": kind,
        **write_transformer(spec),
        **({"attention_bias": mixer.qkv_bias, "mlp_bias": mlp.bias} if kind == "llama" else {}),
        **({"sliding_window": mixer.window} if kind == "mistral" else {}),
    }


def _gguf_config(fields: Mapping[str, Any], file: TensorTable) -> dict[str, Any]:
    window = fields.get("attention.sliding_window")
    found = gguf_transformer_config(fields, file)
    if window is None:
        return found | {"model_type": "llama"}
    without_bias = {key: value for key, value in found.items() if not key.endswith("_bias")}
    return without_bias | {"model_type": "mistral", "sliding_window": window}


FAMILIES = (
    Family(
        name="llama",
        model_types=("llama", "mistral"),
        spec=spec,
        config=config,
        names=transformer_names,
        gguf=Gguf(
            arch="llama",
            config=_gguf_config,
            names=gguf_transformer_names,
            metadata=gguf_transformer_metadata,
            tensors=gguf_transformer_tensors,
        ),
    ),
)
