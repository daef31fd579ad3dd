"""Keys and values of published config.json files: facts about models that people have, as they were uploaded.

`PUBLISHED` maps a model to its config; `NAMED` says which of its keys the warning must name. Lists of kinds by layer
are written short: `layers("mamba mamba attention", ...)`.
"""

from typing import Any

_TF = "transformers_version"


def layers(kinds: str, attending: tuple[int, ...], count: int) -> list[str]:
    """A list of `count` kinds: the second of `kinds` at the places `attending`, the first elsewhere."""
    other, attention = kinds.split()
    return [attention if i in attending else other for i in range(count)]


def _llama(width: int, hidden: int, count: int, heads: int, kv_heads: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": hidden,
        "num_attention_heads": heads,
        "num_hidden_layers": count,
        "num_key_value_heads": kv_heads,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": vocab,
        "rms_norm_eps": 1e-05,
    } | more


_V4 = {"attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "pretraining_tp": 1}
_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_LLAMA3 |= {"rope_type": "llama3"}
_LLAMA32 = _LLAMA3 | {"factor": 32.0}
_SMOLLM2: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    _TF: "4.40.1",
}
_SMOLLM2_INSTRUCT = _SMOLLM2 | {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "rope_theta": 100000,
    _TF: "4.42.3",
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
}
_UNSLOTH = {"unsloth_fixed": True, "pad_token_id": 128004, _TF: "4.47.1"}


def _mistral(width: int, hidden: int, count: int, vocab: int, window: int | None, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["MistralForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": hidden,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": count,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": window,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": vocab,
    } | more


_MAMBA_TIMES = {
    "rescale_prenorm_residual": False,
    "residual_in_fp32": True,
    "time_step_floor": 0.0001,
    "time_step_init_scheme": "random",
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "time_step_scale": 1.0,
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
}


def _mamba(width: int, count: int) -> dict[str, Any]:
    return _MAMBA_TIMES | {
        "architectures": ["MambaForCausalLM"],
        "bos_token_id": 0,
        "conv_kernel": 4,
        "d_inner": 2 * width,
        "d_model": width,
        "eos_token_id": 0,
        "expand": 2,
        "fused_add_norm": True,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.1,
        "intermediate_size": 2 * width,
        "layer_norm_epsilon": 1e-05,
        "model_type": "mamba",
        "n_layer": count,
        "num_hidden_layers": count,
        "pad_token_id": 0,
        "pad_vocab_size_multiple": 8,
        "rms_norm": True,
        "ssm_cfg": {},
        "state_size": 16,
        "time_step_rank": width // 16,
        "torch_dtype": "float32",
        _TF: "4.39.0.dev0",
        "vocab_size": 50280,
    }


def _mamba2(width: int, count: int, groups: int, vocab: int, **more: Any) -> dict[str, Any]:
    return (
        _MAMBA_TIMES
        | {
            "architectures": ["Mamba2ForCausalLM"],
            "bos_token_id": 0,
            "chunk_size": 256,
            "conv_kernel": 4,
            "eos_token_id": 0,
            "expand": 2,
            "head_dim": 64,
            "hidden_act": "silu",
            "hidden_size": width,
            "initializer_range": 0.1,
            "intermediate_size": 2 * width,
            "layer_norm_epsilon": 1e-05,
            "model_type": "mamba2",
            "n_groups": groups,
            "norm_before_gate": True,
            "num_heads": width // 32,
            "num_hidden_layers": count,
            "pad_token_id": 0,
            "rms_norm": True,
            "state_size": 128,
            "tie_word_embeddings": False,
            "time_step_limit": [0.0, float("inf")],
            "time_step_rank": width // 16,
            "torch_dtype": "bfloat16",
            _TF: "4.44.0.dev0",
            "vocab_size": vocab,
        }
        | more
    )


def _falcon_mamba(**more: Any) -> dict[str, Any]:
    return (
        _MAMBA_TIMES
        | {
            "_name_or_path": "./",
            "architectures": ["FalconMambaForCausalLM"],
            "bos_token_id": 0,
            "conv_kernel": 4,
            "eos_token_id": 11,
            "expand": 16,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.1,
            "intermediate_size": 8192,
            "layer_norm_epsilon": 1e-05,
            "model_type": "falcon_mamba",
            "num_hidden_layers": 64,
            "pad_token_id": 11,
            "state_size": 16,
            "tie_word_embeddings": False,
            "time_step_rank": 256,
            "torch_dtype": "bfloat16",
            _TF: "4.43.0.dev0",
            "vocab_size": 65024,
        }
        | more
    )


def _granite(width: int, hidden: int, count: int, vocab: int, logits: float, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["GraniteForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.1,
        "attention_multiplier": 0.015625 if width == 2048 else 0.0078125,
        "bos_token_id": 0,
        "embedding_multiplier": 12.0,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": hidden,
        "logits_scaling": logits,
        "max_position_embeddings": 4096,
        "mlp_bias": False,
        "model_type": "granite",
        "num_attention_heads": 32,
        "num_hidden_layers": count,
        "num_key_value_heads": 8,
        "pad_token_id": 0,
        "residual_multiplier": 0.22,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        _TF: "4.46.0.dev0",
        "use_cache": True,
        "vocab_size": vocab,
    } | more


def _hybrid(width: int, count: int, attending: tuple[int, ...], **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_multiplier": 0.015625,
        "bos_token_id": 100257,
        "embedding_multiplier": 12,
        "eos_token_id": 100257,
        "hidden_act": "silu",
        "hidden_size": width,
        "init_method": "mup",
        "initializer_range": 0.1,
        "layer_types": layers("mamba attention", attending, count),
        "logits_scaling": 8,
        "mamba_chunk_size": 256,
        "mamba_conv_bias": True,
        "mamba_d_conv": 4,
        "mamba_d_head": 64,
        "mamba_d_state": 128,
        "mamba_expand": 2,
        "mamba_n_groups": 1,
        "mamba_n_heads": width // 32,
        "mamba_proj_bias": False,
        "max_position_embeddings": 131072,
        "model_type": "granitemoehybrid",
        "normalization_function": "rmsnorm",
        "num_attention_heads": 32,
        "num_hidden_layers": count,
        "num_key_value_heads": 8,
        "output_router_logits": False,
        "pad_token_id": 100256,
        "position_embedding_type": "nope",
        "residual_multiplier": 0.22,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000,
        "router_aux_loss_coef": 0.01,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        _TF: "4.56.0",
        "use_cache": True,
        "vocab_size": 100352,
    } | more


def _dense(width: int, count: int, hidden: int, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    """Dense Granite 4.0: every layer attends, and the keys of Mamba-2 are there all the same."""
    dense = {
        "layer_types": ["attention"] * count,
        "intermediate_size": hidden,
        "shared_intermediate_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "position_embedding_type": "rope",
        "rope_theta": 10000000,
        "mamba_n_heads": 128,
        "mamba_d_state": 256,
        "mamba_d_head": width // 64,
    }
    return _hybrid(width, count, (), **dense) | more


def _bamba(**more: Any) -> dict[str, Any]:
    return {
        "architectures": ["BambaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_layer_indices": [9, 18, 27],
        "attn_rotary_emb": 64,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 14336,
        "mamba_chunk_size": 256,
        "mamba_conv_bias": True,
        "mamba_d_conv": 4,
        "mamba_d_head": 64,
        "mamba_d_state": 128,
        "mamba_expand": 2,
        "mamba_n_groups": 1,
        "mamba_n_heads": 128,
        "mamba_proj_bias": False,
        "max_position_embeddings": 4096,
        "mlp_bias": False,
        "model_type": "bamba",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "num_logits_to_keep": 1,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        _TF: "4.48.0.dev0",
        "use_cache": True,
        "use_mamba_kernels": True,
        "vocab_size": 128256,
    } | more


_HYMBA: dict[str, Any] = {
    "architectures": ["HymbaForCausalLM"],
    "attention_dropout": 0.0,
    "attn_hidden_size": -1,
    "attn_implementation": "flex",
    "attn_implementation_new": "flex",
    "auto_map": {"AutoConfig": "configuration_hymba.HymbaConfig"},
    "bos_token_id": 1,
    "calc_logits_for_entire_prompt": False,
    "conv_dim": {str(i): 3200 for i in range(32)},
    "eos_token_id": 2,
    "global_attn_idx": [0, 15, 31],
    "hidden_act": "silu",
    "hidden_size": 1600,
    "initializer_range": 0.02,
    "intermediate_size": 5504,
    "kq_head_dim": -1,
    "kq_norm": "none",
    "kv_reuse_every_i_layer": -1,
    "kv_reuse_group": [[i, i + 1] for i in range(1, 15, 2)] + [[16, 17, 18]] + [[i, i + 1] for i in range(19, 31, 2)],
    "kv_weight_reuse": False,
    "layer_type": ["h"] * 32,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_state": 16,
    "mamba_dt_rank": 100,
    "mamba_expand": 2,
    "mamba_inner_layernorms": True,
    "mamba_proj_bias": False,
    "max_position_embeddings": 8192,
    "memory_tokens_interspersed_every": 0,
    "mlp_hidden_act": "silu",
    "model_type": "hymba",
    "num_attention_heads": 25,
    "num_experts": 1,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 32,
    "num_key_value_heads": 5,
    "num_mamba": 1,
    "num_memory_tokens": 128,
    "orig_max_position_embeddings": 2048,
    "output_router_logits": False,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope": True,
    "rope_theta": 10000.0,
    "rope_type": "ntk",
    "router_aux_loss_coef": 0.001,
    "seq_length": 8192,
    "sliding_window": 1024,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    _TF: "4.44.0",
    "use_cache": False,
    "use_mamba_kernels": True,
    "v_head_dim": 128,
    "vocab_size": 32001,
}
_STRIPEDHYENA: dict[str, Any] = {
    "architectures": ["StripedHyenaModelForCausalLM"],
    "attn_layer_idxs": list(range(1, 32, 2)),
    "column_split": False,
    "column_split_hyena": True,
    "eps": 1e-05,
    "final_norm": True,
    "hidden_size": 4096,
    "hyena_filter_groups": 1,
    "hyena_layer_idxs": list(range(0, 32, 2)),
    "inference_mode": False,
    "inner_mlp_size": 14336,
    "log_intermediate_values": False,
    "make_vocab_size_divisible_by": 8,
    "max_seqlen": 32768,
    "mlp_init_method": "torch.nn.init.zeros_",
    "mlp_output_init_method": "torch.nn.init.zeros_",
    "model_parallel_size": 1,
    "model_type": "stripedhyena",
    "num_attention_heads": 32,
    "num_filters": 4096,
    "num_layers": 32,
    "pipe_parallel_size": 1,
    "prefill_style": "fft",
    "proj_groups": 4,
    "rotary_emb_base": 500000,
    "short_filter_bias": True,
    "short_filter_length": 3,
    "smeared_gqa": False,
    "split_k0": True,
    "state_size": 2,
    "tie_embeddings": False,
    "torch_dtype": "bfloat16",
    _TF: None,
    "use_cache": True,
    "use_flash_attention_2": True,
    "use_flash_attn": True,
    "use_flash_depthwise": False,
    "use_flash_rmsnorm": False,
    "use_flashfft": False,
    "vocab_size": 32000,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "HuggingFaceTB/SmolLM2-135M": _llama(576, 1536, 30, 9, 3, 49152, **_SMOLLM2),
    "HuggingFaceTB/SmolLM2-135M-Instruct": _llama(576, 1536, 30, 9, 3, 49152, **_SMOLLM2_INSTRUCT),
    "HuggingFaceTB/SmolLM2-360M-Instruct": _llama(960, 2560, 32, 15, 5, 49152, **_SMOLLM2_INSTRUCT),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": _llama(
        2048, 8192, 24, 32, 32, 49152, **_SMOLLM2_INSTRUCT | {"rope_theta": 130000}
    ),
    "unsloth/SmolLM2-135M-Instruct": _llama(
        576, 1536, 30, 9, 3, 49152, **_SMOLLM2_INSTRUCT | {"unsloth_fixed": True, "head_dim": 64}
    ),
    "meta-llama/Llama-2-7b-hf": _llama(
        4096, 11008, 32, 32, 32, 32000,
        bos_token_id=1, eos_token_id=2, max_position_embeddings=4096, pretraining_tp=1, rope_scaling=None,
        torch_dtype="float16", transformers_version="4.31.0.dev0",
    ),
    "NousResearch/Llama-2-7b-hf": _llama(
        4096, 11008, 32, 32, 32, 32000,
        _name_or_path="/data/llama", bos_token_id=1, eos_token_id=2, pad_token_id=0, max_position_embeddings=4096,
        pretraining_tp=1, rope_scaling=None, torch_dtype="float16", transformers_version="4.31.0.dev0",
    ),
    "codellama/CodeLlama-7b-hf": _llama(
        4096, 11008, 32, 32, 32, 32016,
        bos_token_id=1, eos_token_id=2, max_position_embeddings=16384, rope_scaling=None, rope_theta=1000000,
        transformers_version="4.33.0.dev0",
    ),
    "lmsys/vicuna-7b-v1.5-16k": _llama(
        4096, 11008, 32, 32, 32, 32000,
        _name_or_path="vicuna-7b-v1.5-16k", bos_token_id=1, eos_token_id=2, max_position_embeddings=4096,
        max_sequence_length=16384, pad_token_id=0, pretraining_tp=1, rope_scaling={"factor": 4.0, "type": "linear"},
        torch_dtype="float16", transformers_version="4.31.0",
    ),
    "deepseek-ai/deepseek-coder-6.7b-instruct": _llama(
        4096, 11008, 32, 32, 32, 32256,
        bos_token_id=32013, eos_token_id=32021, max_position_embeddings=16384, pretraining_tp=1, rms_norm_eps=1e-06,
        rope_scaling={"factor": 4.0, "type": "linear"}, rope_theta=100000, transformers_version="4.34.1",
    ),
    "NousResearch/Yarn-Llama-2-7b-64k": _llama(
        4096, 11008, 32, 32, 32, 32000,
        bos_token_id=1, eos_token_id=2, max_position_embeddings=65536, pretraining_tp=1,
        rope_scaling={"factor": 16.0, "original_max_position_embeddings": 4096, "type": "yarn", "finetuned": True},
        torch_dtype="float16", transformers_version="4.32.1",
    ),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": _llama(
        2048, 5632, 22, 32, 4, 32000,
        attention_bias=False, bos_token_id=1, eos_token_id=2, max_position_embeddings=2048, pretraining_tp=1,
        rope_scaling=None, rope_theta=10000.0, transformers_version="4.35.0",
    ),
    "01-ai/Yi-6B": _llama(
        4096, 11008, 32, 32, 4, 64000,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, max_position_embeddings=4096, rope_theta=5000000.0,
        transformers_version="4.34.0",
    ),
    "meta-llama/Meta-Llama-3-8B-Instruct": _llama(
        4096, 14336, 32, 32, 8, 128256,
        **{k: v for k, v in _V4.items() if k != "mlp_bias"}, bos_token_id=128000, eos_token_id=128009,
        max_position_embeddings=8192, rope_scaling=None, rope_theta=500000.0, transformers_version="4.40.0.dev0",
    ),
    "meta-llama/Llama-3.1-8B-Instruct": _llama(
        4096, 14336, 32, 32, 8, 128256,
        **_V4, bos_token_id=128000, eos_token_id=[128001, 128008, 128009], max_position_embeddings=131072,
        rope_scaling=_LLAMA3, rope_theta=500000.0, transformers_version="4.42.3",
    ),
    "unsloth/Meta-Llama-3.1-8B-Instruct": _llama(
        4096, 14336, 32, 32, 8, 128256,
        **_V4 | _UNSLOTH, bos_token_id=128000, eos_token_id=[128001, 128008, 128009], max_position_embeddings=131072,
        rope_scaling=_LLAMA3, rope_theta=500000.0, head_dim=128,
    ),
    "meta-llama/Llama-3.2-1B": _llama(
        2048, 8192, 16, 32, 8, 128256,
        **_V4, bos_token_id=128000, eos_token_id=128001, head_dim=64, max_position_embeddings=131072,
        rope_scaling=_LLAMA32, rope_theta=500000.0, tie_word_embeddings=True, transformers_version="4.45.0.dev0",
    ),
    "unsloth/Llama-3.2-3B-Instruct": _llama(
        3072, 8192, 28, 24, 8, 128256,
        **_V4 | _UNSLOTH, bos_token_id=128000, eos_token_id=128009, head_dim=128, max_position_embeddings=131072,
        rope_scaling=_LLAMA32, rope_theta=500000.0, tie_word_embeddings=True, unsloth_version="2024.9",
    ),
    "Llama-3.2-1B, saved by transformers 5": _llama(
        2048, 8192, 16, 32, 8, 128256,
        attention_bias=False, attention_dropout=0.0, bos_token_id=128000, dtype="bfloat16", eos_token_id=128001,
        head_dim=64, layer_types=["full_attention"] * 16, max_position_embeddings=131072, mlp_bias=False,
        pad_token_id=None, pretraining_tp=1, rope_parameters=_LLAMA32 | {"rope_theta": 500000.0},
        tie_word_embeddings=True, transformers_version="5.0.0",
    ),
    "mistralai/Mistral-7B-v0.1": _mistral(4096, 14336, 32, 32000, 4096, transformers_version="4.34.0.dev0"),
    "mistralai/Mistral-7B-Instruct-v0.3": _mistral(
        4096, 14336, 32, 32768, None, rope_theta=1000000.0, transformers_version="4.42.0.dev0"
    ),
    "HuggingFaceH4/zephyr-7b-beta": _mistral(
        4096, 14336, 32, 32000, 4096, _name_or_path="data/zephyr", pad_token_id=2, transformers_version="4.35.0"
    ),
    "NousResearch/Yarn-Mistral-7b-128k": _mistral(
        4096, 14336, 32, 32000, 4096,
        max_sequence_length=131072,
        rope_scaling={"factor": 16.0, "finetuned": True, "original_max_position_embeddings": 8192, "type": "yarn"},
        transformers_version="4.35.0.dev0",
    ),
    "mistralai/Mistral-Nemo-Instruct-2407": _mistral(
        5120, 14336, 40, 131072, None, head_dim=128, max_position_embeddings=131072, rope_theta=1000000.0,
        transformers_version="4.43.0.dev0",
    ),
    "unsloth/mistral-7b-instruct-v0.3": _mistral(
        4096, 14336, 32, 32768, None, pad_token_id=770, rope_theta=1000000.0, unsloth_version="2024.9",
        transformers_version="4.44.2",
    ),
    "mistralai/Ministral-8B-Instruct-2410": _mistral(
        4096, 12288, 36, 131072, 32768, head_dim=128, rope_theta=100000000.0, transformers_version="4.46.0.dev0"
    ),
    "state-spaces/mamba-130m-hf": _mamba(768, 24),
    "state-spaces/mamba-790m-hf": _mamba(1536, 48),
    "state-spaces/mamba-2.8b-hf": _mamba(2560, 64),
    "mamba-130m, saved by transformers 5": _mamba(768, 24)
    | {"dtype": "float32", "tie_word_embeddings": True, "use_associative_scan": True, _TF: "5.2.0"},
    "AntonV/mamba2-130m-hf": _mamba2(
        768, 24, 1, 50288, tie_word_embeddings=True, norm_before_gate=False, vocab_size=50288, torch_dtype="float32"
    ),
    "mistralai/Mamba-Codestral-7B-v0.1": _mamba2(4096, 64, 8, 32768, _name_or_path="/raid/codestral-hf-good/"),
    "tiiuae/falcon-mamba-7b": _falcon_mamba(),
    "tiiuae/falcon-mamba-7b-instruct": _falcon_mamba(use_mambapy=False, mixer_rms_eps=1e-06),
    "ibm-ai-platform/Bamba-9B-v1": _bamba(),
    "ibm-ai-platform/Bamba-9B-v2": _bamba(z_loss_coefficient=0.0, transformers_version="4.52.0.dev0"),
    "ibm-granite/granite-3.0-2b-instruct": _granite(2048, 8192, 40, 49155, 8.0),
    "ibm-granite/granite-3.1-8b-instruct": _granite(
        4096, 12800, 40, 49155, 16.0, max_position_embeddings=131072, rope_theta=1e7, transformers_version="4.47.0"
    ),
    "ibm-granite/granite-3.3-2b-instruct": _granite(
        2048, 8192, 40, 49159, 8.0, max_position_embeddings=131072, rope_theta=10000000.0, transformers_version="4.49.0"
    ),
    "ibm-granite/granite-4.1-3b": _granite(
        2560, 8192, 40, 100352, 10.0,
        attention_multiplier=0.015625, num_attention_heads=40, max_position_embeddings=131072, rope_theta=10000000,
        bos_token_id=100257, eos_token_id=100257, pad_token_id=100256, transformers_version="4.57.1",
    ),
    "granite-4.1-3b, saved by transformers 5": _granite(
        2560, 8192, 40, 100352, 10.0,
        attention_multiplier=0.015625, num_attention_heads=40, max_position_embeddings=131072, rope_theta=None,
        rope_parameters={"rope_theta": 10000000, "rope_type": "default"}, dtype="bfloat16",
        transformers_version="5.1.0",
    ),
    "ibm-granite/granite-4.0-tiny-preview": _hybrid(
        1536, 40, (5, 15, 25, 35),
        intermediate_size=512, num_local_experts=62, num_experts_per_tok=6, shared_intermediate_size=1024,
        num_attention_heads=12, num_key_value_heads=4, logits_scaling=6, attention_multiplier=0.0078125,
        vocab_size=49160, bos_token_id=0, eos_token_id=0, pad_token_id=0, attention_dropout=0.1, mamba_d_head="auto",
        transformers_version="4.49.0",
    ),
    "ibm-granite/granite-4.0-h-tiny": _hybrid(
        1536, 40, (5, 15, 25, 35),
        intermediate_size=512, num_local_experts=64, num_experts_per_tok=6, shared_intermediate_size=1024,
        num_attention_heads=12, num_key_value_heads=4, logits_scaling=6, attention_multiplier=0.0078125,
    ),
    "ibm-granite/granite-4.0-h-small": _hybrid(
        4096, 40, (5, 15, 25, 35),
        intermediate_size=768, num_local_experts=72, num_experts_per_tok=10, shared_intermediate_size=1536,
        logits_scaling=16, attention_multiplier=0.0078125,
    ),
    "ibm-granite/granite-4.0-h-micro": _hybrid(
        2048, 40, (5, 15, 25, 35),
        intermediate_size=8192, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=8192,
    ),
    "ibm-granite/granite-4.0-h-350m": _hybrid(
        768, 32, (10, 13, 17, 27),
        intermediate_size=2048, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=2048,
        mamba_n_heads=48, mamba_d_head=32,
        num_attention_heads=12, num_key_value_heads=4, logits_scaling=3, max_position_embeddings=32768,
    ),
    "granite-4.0-h-350m, saved by transformers 5": _hybrid(
        768, 32, (),
        layer_types=layers("linear_attention full_attention", (10, 13, 17, 27), 32), rope_theta=None,
        rope_parameters={"rope_theta": 10000, "rope_type": "default"}, time_step_limit=[0.0, {"__float__": "Infinity"}],
        intermediate_size=2048, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=2048,
        mamba_n_heads=48, mamba_d_head=32,
        num_attention_heads=12, num_key_value_heads=4, logits_scaling=3, max_position_embeddings=32768,
        dtype="bfloat16", transformers_version="5.0.0",
    ),
    "ibm-granite/granite-4.0-350m": _dense(1024, 28, 2048, 16, 4, logits_scaling=4),
    "ibm-granite/granite-4.0-1b": _dense(2048, 40, 4096, 16, 4, attention_multiplier=0.0078125),
    "ibm-granite/granite-4.0-micro": _dense(2560, 40, 8192, 40, 8, logits_scaling=10),
    "unsloth/granite-4.0-micro": _dense(2560, 40, 8192, 40, 8, logits_scaling=10, unsloth_fixed=True),
    "nvidia/Hymba-1.5B-Base": _HYMBA,
    "nvidia/Hymba-1.5B-Instruct": _HYMBA | {"pad_token_id": 0, "use_cache": True},
    "togethercomputer/StripedHyena-Hessian-7B": _STRIPEDHYENA,
    "togethercomputer/StripedHyena-Nous-7B": _STRIPEDHYENA
    | {"max_seqlen": 32768, "use_interpolated_rotary_pos_emb": False, "rotary_emb_scaling_factor": 1},
}  # fmt: skip

_MAMBA_KEYS = "mamba_chunk_size mamba_conv_bias mamba_d_conv mamba_d_head mamba_d_state mamba_expand mamba_n_groups "
_MAMBA_KEYS += "mamba_n_heads"

# Keys without effect that a user is told of, for the models that have such.
NAMED: dict[str, str] = {
    "HuggingFaceTB/SmolLM2-135M": "is_llama_config",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "is_llama_config transformers.js_config",
    "HuggingFaceTB/SmolLM2-360M-Instruct": "is_llama_config transformers.js_config",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "is_llama_config transformers.js_config",
    "unsloth/SmolLM2-135M-Instruct": "is_llama_config transformers.js_config unsloth_fixed",
    "lmsys/vicuna-7b-v1.5-16k": "max_sequence_length",
    "NousResearch/Yarn-Llama-2-7b-64k": "rope_scaling.finetuned",
    "NousResearch/Yarn-Mistral-7b-128k": "max_sequence_length rope_scaling.finetuned",
    "unsloth/Meta-Llama-3.1-8B-Instruct": "unsloth_fixed",
    "unsloth/Llama-3.2-3B-Instruct": "unsloth_fixed unsloth_version",
    "unsloth/mistral-7b-instruct-v0.3": "unsloth_version",
    "Llama-3.2-1B, saved by transformers 5": "layer_types",
    "mistralai/Mamba-Codestral-7B-v0.1": "norm_before_gate",
    "ibm-granite/granite-4.0-350m": _MAMBA_KEYS,
    "ibm-granite/granite-4.0-1b": _MAMBA_KEYS,
    "ibm-granite/granite-4.0-micro": _MAMBA_KEYS,
    "unsloth/granite-4.0-micro": f"{_MAMBA_KEYS} unsloth_fixed",
}

# Parameters by the models' own cards or indices, tied heads counted once.
PARAMETERS: dict[str, int] = {
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "unsloth/Llama-3.2-3B-Instruct": 3_212_749_824,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "mistralai/Mistral-Nemo-Instruct-2407": 12_247_782_400,
    "state-spaces/mamba-130m-hf": 129_135_360,
    "state-spaces/mamba-2.8b-hf": 2_768_345_600,
    "mistralai/Mamba-Codestral-7B-v0.1": 7_285_403_648,
    "tiiuae/falcon-mamba-7b": 7_272_665_088,
    "ibm-granite/granite-3.1-8b-instruct": 8_170_848_256,
    "mistralai/Ministral-8B-Instruct-2410": 8_019_808_256,
}
