"""Keys of published configs by what they do, whatever the family: housekeeping, neutral values, the look of arithmetic.

The tables hold facts about files that people have; a family's own keys stand in its own file.
"""

import re
from collections.abc import Callable
from typing import Any

# Written by transformers into nearly every config; they say nothing about the computation.
SILENT = frozenset(
    """_name_or_path architectures auto_map model_type torch_dtype dtype transformers_version use_cache
    bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id unk_token_id
    attn_implementation _attn_implementation _attn_implementation_autoset
    _attn_implementation_internal attention_dropout hidden_dropout initializer_range
    output_attentions output_hidden_states return_dict chunk_size_feed_forward id2label label2id
    problem_type is_encoder_decoder task_specific_params pretraining_tp""".split()
)

# Settings of generation and of heads for other tasks, which older versions wrote into config.json, although some of
# their names are those of arithmetic too.
_NOT_ARITHMETIC = frozenset(
    """temperature top_k top_p typical_p repetition_penalty length_penalty diversity_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size num_beams num_beam_groups num_return_sequences max_length min_length max_new_tokens
    do_sample early_stopping bad_words_ids suppress_tokens begin_suppress_tokens forced_bos_token_id
    forced_eos_token_id exponential_decay_length_penalty remove_invalid_values output_scores
    return_dict_in_generate prefix pruned_heads add_cross_attention cross_attention_hidden_size is_decoder
    tie_encoder_decoder tf_legacy_loss use_bfloat16 torchscript finetuning_task num_labels classifier_dropout
    tokenizer_class logits_to_keep num_logits_to_keep calc_logits_for_entire_prompt keys_to_ignore_at_inference
    max_sequence_length model_max_length max_seq_len seq_length cache_implementation
    layer_norm_init hidden_layers_init unsloth_tiled_mlp""".split()
)
_NOT_ARITHMETIC_LOOK = re.compile(
    r"""(
    init(ial|ializer)?_.* | .*_init(ializer)?(_.*)?     # how weights began
    | .*dropout.* | .*loss(_.*)? | .*_coef(f|ficient)?  # training
    | .*checkpointing.* | neftune_.* | unsloth_.*
    | .*kernels? | fused_.* | (use|fused)_(flash|fused|kernel|mem_eff|triton).*  # which code runs
    | .*_token(_id|_ids|s_ids)? | .*token_index | .*_ids?                        # tokens
    | (vision|image|pixel|video|audio|speech|perceiver)_.*                       # other parts of a larger model
    | _.* | .*(revision|version|commit).*               # notes of tools
    )""",
    re.VERBOSE,
)

# Values by which a key of arithmetic asks for nothing beyond what a plain block does.
_NEUTRAL: dict[str, Callable[[Any], bool]] = {
    "layer_types": lambda value: isinstance(value, list) and all(kind == "full_attention" for kind in value),
    "partial_rotary_factor": lambda value: value == 1,
    "embedding_multiplier": lambda value: value == 1,
    "residual_multiplier": lambda value: value == 1,
    "logits_scaling": lambda value: value == 1,
    "logit_scale": lambda value: value == 1,
    "num_experts": lambda value: value in (0, 1),
    "num_local_experts": lambda value: value in (0, 1),
    "num_experts_per_tok": lambda value: value == 0,
    "num_nextn_predict_layers": lambda value: isinstance(value, int),  # further heads: their tensors are skipped
}

_WORDS = frozenset(
    """act activation alibi attention attn base bias block blocks cap capping chunk clip conv convolution decay
    deepstack depth dim dims dt embed embedding embeddings eps epsilon expand expert experts factor ffn float freq
    frequency gate gated gating global group groups head heads hidden hyena inner intermediate interleave interleaved
    kernel key keys kv lambda layer layernorm layers local logit logits mamba memory merge meta mixer mixers mlp moe mtp
    multiplier norm normalization normalize norms offset parallel partial period pos position positional positions
    prefix proj projection q qk qkv quant quantization quantized query rank residual residuals rms rope rotary router
    rotation routing sandwich scale scaled scales scaling shared shift sigmoid sink sinks size sliding soft softcap
    softcapping softmax sparse sparsity ssm state states stride swa temp temperature theta tie tied time topk v value
    values vocab vocabulary width window windows yarn z""".split()
)


def is_neutral(key: str, value: Any) -> bool:
    """Whether `value` asks of `key` what a plain model does anyway."""
    return key in _NEUTRAL and _NEUTRAL[key](value)


def may_be_arithmetic(key: str) -> bool:
    """Whether a key that no family knows has a name of the kind that settings of arithmetic have."""
    if key in _NOT_ARITHMETIC or _NOT_ARITHMETIC_LOOK.fullmatch(key):
        return False
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return not _WORDS.isdisjoint(re.split(r"[\W_]+", spaced.lower()))
