"""A published config.json before a family reads it: the text model's part of it, and how its weights are stored.

A model that also sees or hears has its language model's config under `text_config`; keys that are not repeated there
come from the whole, and sizes that are said nowhere from transformers' class. What says how weights are quantized, and
how many layers predict tokens further ahead, concerns the weights and not the arithmetic: no family reads it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .. import families
from ..errors import CheckpointError, quoted
from ..families import Family
from ..spec import is_whole
from ..system.files import is_there, read_object
from .fp8_config import Fp8, read_fp8
from .usable_length import KEY, usable_length_of

CONFIG_FILE = "config.json"

_QUANTIZED = ("quantization_config", "compression_config")  # the second: compressed-tensors of before 2024
_AHEAD = "num_nextn_predict_layers"
_OF_THE_WHOLE = ("tie_word_embeddings", "eos_token_id", "torch_dtype", "dtype", *_QUANTIZED)
_SIZES = {"vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
# Sizes that a nested config leaves out where they are the defaults of transformers' class.
_UNSAID: Mapping[str, Mapping[str, int]] = {
    "llama": _SIZES | {"intermediate_size": 11008, "max_position_embeddings": 2048},
    "mistral": _SIZES | {"intermediate_size": 14336, "max_position_embeddings": 131072},
    "granite": _SIZES | {"intermediate_size": 11008, "max_position_embeddings": 2048},
}


class Published(NamedTuple):
    """A published config: `config` is the text model's, without what concerns only the weights.

    fp8: their scales, if they are stored so. ahead: layers behind the last that predict tokens further ahead.
    nested: the weights are a larger model's. usable_length: as `usable_length_of` reads it.
    """

    family: Family
    config: dict[str, Any]
    fp8: Fp8 | None
    ahead: int
    nested: bool
    usable_length: int | None


def read_published(path: Path) -> Published:
    """The config of a directory; `CheckpointError` or `SpecError` if it is none of a text model that can be read."""
    file = path / CONFIG_FILE
    config = read_object(file, CheckpointError, missing=_missing(path))
    usable_length = usable_length_of(config, file)
    nested = _is_nested(config)
    config = _text_config(config) if nested else dict(config)
    config.pop(KEY, None)
    family = families.of_config(config)
    found = [config.pop(key, None) for key in _QUANTIZED]
    fp8 = read_fp8(next((metadata for metadata in found if metadata), None), str(file))
    ahead = config.pop(_AHEAD, None) or 0
    if not is_whole(ahead) or not 0 <= ahead <= 1000:
        raise CheckpointError(f"{file} has the {_AHEAD} {quoted(ahead)}, but it must be a number of layers")
    return Published(family, config, fp8, ahead, nested, usable_length)


def _is_nested(config: Mapping[str, Any]) -> bool:
    """Whether the text model's config is under `text_config`, and the whole is of no family."""
    inner = config.get("text_config")
    known = any(family.accepts(config) for family in families.families())
    return isinstance(inner, dict) and not known and any(family.accepts(inner) for family in families.families())


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    inner = config["text_config"]
    whole = {key: config[key] for key in _OF_THE_WHOLE if key in config and inner.get(key) is None}
    own = {key: value for key, value in inner.items() if value is not None or key not in _OF_THE_WHOLE}
    return {**_UNSAID.get(inner.get("model_type"), {}), **whole, **own}


def _missing(path: Path) -> str:
    """A sentence on a directory without a config: what it is instead, if that is known."""
    ggufs = sorted(path.glob("*.gguf"))
    if ggufs:
        return f"{path} is no checkpoint directory: it has no {CONFIG_FILE}; load its GGUF file {ggufs[0].name} itself"
    if is_there(path / "params.json"):
        return (
            f"{path} holds a model in the layout of its makers alone (params.json), which is not read; "
            f"get {CONFIG_FILE} and model.safetensors from the same place"
        )
    if is_there(path / "adapter_config.json"):
        return f"{path} holds an adapter; load the model that it was made for, and the adapter with load_adapter"
    return f"{path / CONFIG_FILE} does not exist; a checkpoint directory needs it"
