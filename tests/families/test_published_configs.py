"""Published configs: which load, what they mean, and what becomes of their keys at other values, absent, and null."""

import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from braidlm import families
from braidlm.errors import BraidError, LoadingWarning, SpecError
from braidlm.families.config_keys import SILENT
from braidlm.model import footprint
from tests.families.both import difference, shrunk
from tests.families.published_configs import NAMED, PARAMETERS, PUBLISHED
from tests.tolerances import RELATIVE_LOGITS

KNOWN_TO_TRANSFORMERS = {
    name: config for name, config in PUBLISHED.items() if config["model_type"] not in ("hymba", "stripedhyena")
}
LLAMA = shrunk(PUBLISHED["TinyLlama/TinyLlama-1.1B-Chat-v1.0"])
DENSE = shrunk(PUBLISHED["ibm-granite/granite-4.0-micro"])
MAMBA2 = shrunk(PUBLISHED["mistralai/Mamba-Codestral-7B-v0.1"])
BAMBA = shrunk(PUBLISHED["ibm-ai-platform/Bamba-9B-v1"])


def read(config: dict[str, Any]) -> tuple[Any, str]:
    """The description of a config, and what its warning says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LoadingWarning)
        spec = families.of_config(config).read(config)
    assert len(caught) <= 1
    return spec, "".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_config(name: str) -> None:
    """Oracle: the table's keys without effect, which one warning names, and the parameters of the model's card."""
    spec, warning = read(PUBLISHED[name])
    listed = warning.partition("computed: ")[2].split(", ") if "computed: " in warning else []
    assert sorted(listed) == sorted(NAMED.get(name, "").split())
    if name in PARAMETERS:
        network = footprint.skeleton(spec)
        assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


def test_the_table_is_of_some_size() -> None:
    """Oracle: at least forty models, every family, both spellings, and uploads by others."""
    kinds = {config["model_type"] for config in PUBLISHED.values()}
    assert len(PUBLISHED) >= 40
    assert kinds == {kind for family in families.families() for kind in family.model_types}
    assert sum("rope_parameters" in config for config in PUBLISHED.values()) >= 3
    assert sum(name.startswith("unsloth/") for name in PUBLISHED) >= 4


@pytest.mark.parametrize("name", KNOWN_TO_TRANSFORMERS)
def test_logits_of_a_published_config(name: str) -> None:
    """Oracle: transformers' logits from the same keys, at smaller sizes, on the same random weights."""
    assert difference(shrunk(PUBLISHED[name])) < RELATIVE_LOGITS[torch.float32]


FAMILIES = {
    "llama": "meta-llama/Llama-3.2-1B",
    "yarn": "NousResearch/Yarn-Llama-2-7b-64k",
    "mistral": "mistralai/Mistral-7B-v0.1",
    "mamba": "state-spaces/mamba-130m-hf",
    "falcon_mamba": "tiiuae/falcon-mamba-7b-instruct",
    "mamba2": "mistralai/Mamba-Codestral-7B-v0.1",
    "bamba": "ibm-ai-platform/Bamba-9B-v1",
    "granite": "ibm-granite/granite-3.1-8b-instruct",
    "granitemoehybrid": "ibm-granite/granite-4.0-h-tiny",
    "dense granitemoehybrid": "ibm-granite/granite-4.0-micro",
}


def changed(config: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The config without a key, with null for it, and with another value."""
    value, without = config[key], {k: v for k, v in config.items() if k != key}
    match value:
        case bool():
            other: Any = not value
        case int() | float():
            other = value * 2
        case list() | dict() | str():
            other = None
        case _:
            other = 1
    return [without, config | {key: None}, *([] if other is None else [config | {key: other}])]


def _is_sentence(error: BaseException) -> bool:
    """Whether a file of braidlm is on an exception's way."""
    source = str(Path(footprint.__file__).parent)
    return any(frame.filename.startswith(source) for frame in traceback.extract_tb(error.__traceback__))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_at_other_values_absent_and_null(family: str) -> None:
    """Oracle: transformers' reading of the very same config: equal logits, or a refusal in one sentence."""
    config, compared = shrunk(PUBLISHED[FAMILIES[family]]), 0
    for key in sorted(set(config) - SILENT):
        for variant in changed(config, key):
            try:
                error = difference(variant)
            except BraidError:
                continue  # refused here, and in nothing but one sentence
            except Exception as failure:  # transformers has no type of its own for refusals
                if _is_sentence(failure):
                    raise
                continue
            compared += 1
            assert error < RELATIVE_LOGITS[torch.float32], (key, variant.get(key, "absent"))
    assert compared > 10


@pytest.mark.parametrize(
    ("config", "extra", "named"),
    [
        (LLAMA, {"is_llama_config": True, "rope_interleaved": False}, "is_llama_config"),
        (LLAMA, {"transformers.js_config": {"dtype": "q4"}}, "transformers.js_config"),
        (LLAMA, {"unsloth_fixed": True}, "unsloth_fixed"),
        (LLAMA, {"unsloth_version": "2026.3.3"}, "unsloth_version"),
        (LLAMA, {"layer_types": ["full_attention"] * 3}, "layer_types"),
        (LLAMA, {"logits_to_keep": 1}, "logits_to_keep"),
        (LLAMA, {"tokenizer_class": "X"}, "tokenizer_class"),
        (LLAMA, {"neftune_noise_alpha": 0.1, "pixel_shuffle_factor": 4}, "neftune_noise_alpha, pixel_shuffle_factor"),
        (LLAMA, {"temperature": 0.6, "top_k": 20, "max_length": 20}, "max_length, temperature, top_k"),
        (LLAMA, {"sliding_window": 8, "use_sliding_window": False}, "sliding_window"),
        (MAMBA2, {"norm_before_gate": True}, "norm_before_gate"),
    ],
)
def test_keys_without_effect_are_named(config: dict[str, Any], extra: dict[str, Any], named: str) -> None:
    """Oracle: the description without the keys, and transformers' logits with them."""
    spec, warning = read(config | extra)
    assert spec == read(config)[0]
    assert warning.endswith(f"computed: {named}")
    assert difference(config | extra) < RELATIVE_LOGITS[torch.float32]


@pytest.mark.parametrize(
    ("config", "extra", "named"),
    [
        (LLAMA, {"rope_interleaved": True}, "rope_interleaved"),
        (LLAMA, {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        (LLAMA, {"sliding_window": 8, "use_sliding_window": True}, "sliding_window"),
        (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (LLAMA, {"attn_logit_softcapping": 30.0}, "attn_logit_softcapping"),
        (LLAMA, {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "layer_types"),
        (LLAMA, {"layer_types": [{}, ["full_attention"], None]}, "layer_types"),
        (LLAMA, {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope_type"),
        (
            LLAMA,
            {
                "original_max_position_embeddings": 64,
                "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128},
            },
            "original_max_position_embeddings",
        ),
        (BAMBA, {"layer_types": ["attention", "mamba", "mamba"]}, "attn_layer_indices"),
        (DENSE, {"shared_intermediate_size": 0}, "shared_intermediate_size"),
        (MAMBA2, {"head_dim": 8}, "head_dim"),
    ],
)
def test_keys_that_change_arithmetic_are_refused(config: dict[str, Any], extra: dict[str, Any], named: str) -> None:
    """Oracle: the rule that what is not understood is refused, with the key in the sentence."""
    with pytest.raises(SpecError, match=named):
        read(config | extra)


@pytest.mark.parametrize(
    ("config", "extra", "said"),
    [
        (
            LLAMA,
            {"rope_theta": 1e5, "rope_parameters": {"rope_type": "default", "rope_theta": 777.0}},
            ["100000", "777"],
        ),
        (
            LLAMA,
            {
                "rope_scaling": {"rope_type": "linear", "factor": 3.0},
                "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0},
            },
            ["3.0", "2.0"],
        ),
        (LLAMA, {"rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 2.0}}, ["linear", "dynamic"]),
        (BAMBA, {"attn_rotary_emb": 4}, ["attn_rotary_emb", "8"]),
        (MAMBA2, {"intermediate_size": 64}, ["intermediate_size", "64", "128"]),
        (shrunk(PUBLISHED["state-spaces/mamba-130m-hf"]), {"d_model": 32, "n_layer": 1}, ["d_model", "n_layer"]),
        (shrunk(PUBLISHED["tiiuae/falcon-mamba-7b"]), {}, ["expand", "1024", "128"]),
    ],
)
def test_two_spellings_that_disagree(config: dict[str, Any], extra: dict[str, Any], said: list[str]) -> None:
    """Oracle: transformers' choice by its logits; the warning tells of both values."""
    _, warning = read(config | extra)
    assert all(text in warning for text in said), warning
    assert difference(config | extra) < RELATIVE_LOGITS[torch.float32]
