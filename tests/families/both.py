"""One config, two readers: braidlm's logits and transformers' on the same random weights, without files between.

Legend: L = tokens, V = vocabulary.
"""

import copy
import warnings
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from braidlm import families
from braidlm.api.language_model import LanguageModel
from braidlm.checkpoints import binding
from braidlm.checkpoints.saving import Origin
from braidlm.errors import LoadingWarning
from braidlm.families import Family
from braidlm.model import footprint
from braidlm.spec import ModelSpec

Config = dict[str, Any]


def shrunk(config: Config) -> Config:
    """The config of a small model that differs in sizes alone: same keys, same kinds of layers, same settings."""
    small = copy.deepcopy(config)
    heads, kv_heads = config.get("num_attention_heads", 4), config.get("num_key_value_heads")
    same = {"hidden_size": 64, "vocab_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes: Config = same | {
        "num_key_value_heads": 4 if kv_heads == heads else 2,
        "intermediate_size": 128 if "state_size" in config else 96,
        "shared_intermediate_size": 80 if config.get("num_local_experts") else 96,
        "head_dim": 16 if "state_size" in config or config.get("head_dim", 0) * heads == config["hidden_size"] else 24,
        "d_model": 64, "d_inner": 128, "n_layer": 3, "state_size": 8, "time_step_rank": 4, "num_heads": 8,
        "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "attn_rotary_emb": 8,
        "chunk_size": 16, "mamba_chunk_size": 16, "num_local_experts": 4, "num_experts_per_tok": 2,
        "attn_layer_indices": [1],
    }  # fmt: skip
    for key, value in sizes.items():
        if config.get(key) not in (None, "auto", 0):
            small[key] = value
    for key in ("n_groups", "mamba_n_groups"):
        if config.get(key, 1) > 1:
            small[key] = 2
    if config.get("sliding_window"):
        small["sliding_window"] = 7
    if "layer_types" in config:
        kinds = config["layer_types"]
        rare = next((i for i, kind in enumerate(kinds) if kind != kinds[0]), 0)
        small["layer_types"] = [kinds[0], kinds[rare], kinds[0]]
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if key in small:
            small[key] = 1
    return small


def reference_of(config: Config, seed: int = 0) -> Any:
    """A model of transformers from this config, every parameter random; raises what transformers raises."""
    read = copy.deepcopy(config)
    if "time_step_limit" in read:  # transformers' reader of files turns its spelling of infinity into the number
        read["time_step_limit"] = [float("inf") if isinstance(n, dict) else n for n in read["time_step_limit"] or ()]
    reference = CONFIG_MAPPING[config["model_type"]].from_dict(read)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_config(
            reference, attn_implementation="eager", dtype=torch.float32
        ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


def loaded(config: Config, model: Any) -> LanguageModel:
    """braidlm's model from the same config and the weights of transformers' `model`; `BraidError` if refused."""
    family = families.of_config(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoadingWarning)
        spec = family.read(config)
    network = footprint.skeleton(spec)
    binding.fill(network, _Memory(family, spec, model), family.names(spec), torch.float32)
    return LanguageModel(network.eval(), None, Origin(), ops="auto")


class _Memory:
    """The weights of a model of transformers under the names of its files."""

    def __init__(self, family: Family, spec: ModelSpec, model: Any) -> None:
        on_disk = {memory: disk for disk, memory in family.renamed.items()}
        self._tensors: dict[str, Tensor] = {}
        for name, tensor in model.state_dict().items():
            end = next((memory for memory in on_disk if name.endswith(memory)), "")
            self._tensors[name.removesuffix(end) + on_disk.get(end, "")] = tensor.detach()

    def names(self) -> set[str]:
        return set(self._tensors)

    def get(self, name: str) -> Tensor:
        return self._tensors[name]


def difference(config: Config, length: int = 24, seed: int = 0) -> float:
    """The largest difference of the two models' logits, relative to the largest logit."""
    model = reference_of(config, seed)
    ids = torch.randint(128, (1, length), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected_LV = model(ids, use_cache=False).logits[0]
    found_LV = loaded(config, model).forward(ids)[0]
    return float((found_LV - expected_LV).abs().max() / expected_LV.abs().max())
