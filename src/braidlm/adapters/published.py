"""Config of an adapter as peft has it (`adapter_config.json`): what is read, written and refused of it.

Formats: https://huggingface.co/docs/peft, "LoRA", as of peft 0.21.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CheckpointError, quoted
from ..spec import is_finite, is_whole
from ..system.files import read_object
from .config import Lora, scale_of

CONFIG_FILE = "adapter_config.json"

# Keys that say nothing of what the adapter computes. Of `init_lora_weights` some values change the base: see below.
_IGNORED = frozenset(
    """alpha_pattern auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config exclude_modules
    inference_mode init_lora_weights layers_pattern layers_to_transform loftq_config lora_alpha lora_dropout
    lora_ga_config megatron_core peft_type peft_version qalora_group_size r rank_pattern revision runtime_config
    target_modules target_parameters task_type use_dora use_rslora""".split()
)
# Patterns of modules: names, mostly, with few repetitions, so that no name takes long to be compared with one.
_LONGEST, _MOST_REPEATS = 1000, 3
_ESCAPED, _CLASS = re.compile(r"\\.", re.DOTALL), re.compile(r"\[\^?\]?[^\]]*\]")
_REPEATS, _NESTED = re.compile(r"[*+{]"), re.compile(r"\)[*+{]")
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")


class PeftConfig(NamedTuple):
    """Config of a peft adapter. ranks, alphas: of modules that have their own, by patterns of their published names."""

    lora: Lora
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    every_layer: bool

    def size(self, module: str) -> tuple[int, float]:
        """Rank and scale of a module or parameter, by its published name."""
        rank = self.ranks.get(_pattern(self.ranks, module), self.lora.rank)
        alpha = self.alphas.get(_pattern(self.alphas, module), self.lora.alpha)
        return rank, scale_of(alpha, rank, rslora=self.lora.rslora)


def _pattern(patterns: Iterable[str], name: str) -> str:
    """First pattern that names a module, as peft reads them: a regular expression for the end of its name."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", name)), name)


def read_config(directory: Path) -> PeftConfig:
    """Config of the adapter in a directory; `CheckpointError` names what it asks for that is not supported."""
    path = directory / CONFIG_FILE
    metadata = read_object(path, CheckpointError, missing=f"{directory} is no adapter: it has no {CONFIG_FILE}")
    _require_supported(metadata, path)
    try:
        return _decode(metadata)
    except (TypeError, LookupError, ValueError, ArithmeticError, AttributeError, RecursionError, re.error) as error:
        raise CheckpointError(f"{path} has a value that no adapter has: {error}") from None


def _require_supported(metadata: Mapping[str, Any], path: Path) -> None:
    if metadata.get("peft_type") != "LORA":
        raise CheckpointError(f"{path} is of the type {quoted(metadata.get('peft_type'))}; only LORA is supported")
    if metadata.get("init_lora_weights") not in _PLAIN_STARTS:
        raise CheckpointError(
            f"{path} has init_lora_weights={quoted(metadata['init_lora_weights'])}, which changes the base model too; "
            "convert the adapter to plain LoRA first"
        )
    for key, value in metadata.items():
        if key not in _IGNORED and value and not (key == "bias" and value == "none") and key != "megatron_core":
            raise CheckpointError(f"{path} has {key}={quoted(value)}, which is not supported")


def _flag(metadata: Mapping[str, Any], key: str) -> bool:
    value = metadata.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{key} is {quoted(value)}, but must be true or false")
    return bool(value)


def _patterns(metadata: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = metadata.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{key} is {quoted(value)}, but must be an object of patterns")
    for pattern in value:
        _require_plain(pattern)
    return value


def _number(key: str, value: Any) -> float:
    if not is_finite(value):
        raise ValueError(f"{key} is {quoted(value)}, but must be a finite number")
    return float(value)


def _require_plain(pattern: str) -> None:
    """`ValueError` for a pattern that could take longer to match a name than a few repetitions without nesting do."""
    bare = _CLASS.sub("x", _ESCAPED.sub("x", pattern))
    if len(pattern) > _LONGEST or len(_REPEATS.findall(bare)) > _MOST_REPEATS or _NESTED.search(bare):
        raise ValueError(
            f"the pattern {quoted(pattern)} is none of at most {_LONGEST} characters with at most {_MOST_REPEATS} "
            "repetitions, none of them of a group"
        )
    re.compile(pattern)


def _decode(metadata: Mapping[str, Any]) -> PeftConfig:
    modules = metadata.get("target_modules") or ()
    listed = () if isinstance(modules, str) or metadata.get("exclude_modules") else tuple(modules)
    parameters = tuple(metadata.get("target_parameters") or ())
    config = Lora(
        rank=metadata["r"],
        alpha=_number("lora_alpha", metadata["lora_alpha"]),
        target_modules=tuple(sorted({*listed, *parameters})) or ("all",),
        dora=_flag(metadata, "use_dora"),
        rslora=_flag(metadata, "use_rslora"),
        dropout=_number("lora_dropout", 0.0 if (part := metadata.get("lora_dropout")) is None else part),
    )
    ranks, alphas = _patterns(metadata, "rank_pattern"), _patterns(metadata, "alpha_pattern")
    if not all(is_whole(rank) and rank > 0 for rank in ranks.values()):
        raise ValueError(f"rank_pattern is {quoted(ranks)}")
    alphas = {pattern: _number("alpha_pattern", alpha) for pattern, alpha in alphas.items()}
    return PeftConfig(config, ranks, alphas, listed, parameters, metadata.get("layers_to_transform") is None)


def write_config(directory: Path, config: Lora, sizes: Mapping[str, tuple[int, float]], parameters: set[str]) -> None:
    """Writes the config of modules with these ranks and scales, of which those in `parameters` are bare ones."""
    roots = {name: rank**0.5 if config.rslora else float(rank) for name, (rank, _) in sizes.items()}
    alphas = {name: scale * roots[name] for name, (_, scale) in sizes.items()}
    metadata = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        # peft knows no dropout for bare parameters, and refuses the whole adapter; it only matters in training.
        "lora_dropout": 0.0 if parameters else config.dropout,
        "use_rslora": config.rslora,
        "use_dora": config.dora,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": [name for name in sizes if name not in parameters],
        "target_parameters": sorted(parameters) or None,
        "rank_pattern": {name: rank for name, (rank, _) in sizes.items() if rank != config.rank},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if not _same(alpha, config.alpha)},
    }
    (directory / CONFIG_FILE).write_text(json.dumps(metadata, indent=2))


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-12 * abs(other)
