"""Saving of models to directories, in a published format or braidlm's own. A directory appears whole or not at all."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import families
from ..errors import InputError, SpecError
from ..families.names import rename
from ..model.model import Model
from ..spec import ModelSpec
from ..system.dtypes import name_of
from ..system.files import whole_directory
from ..system.progress import ProgressFunction
from ..text.tokenizer import Tokenizer
from . import binding
from .quantizing import describe_quantized, require_plain
from .usable_length import KEY

OWN_FILE = "braidlm.json"
OWN_VERSION = 1


@dataclass(frozen=True)
class Origin:
    """Origin of a model: the name of its format, its config as published, the ids that end a text.

    usable_length: up to how many tokens the model was measured to be usable, if it was.
    """

    format: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    ends: tuple[int, ...] = ()
    usable_length: int | None = None

    def without_measurements(self) -> "Origin":
        """Origin of a model whose weights were changed: what was measured holds no longer."""
        return replace(self, usable_length=None)


def save(
    model: Model,
    tokenizer: Tokenizer | None,
    origin: Origin,
    directory: str | Path,
    format: str = "hf",
    progress: ProgressFunction | None = None,
) -> None:
    """Writes `directory`: "hf" (transformers' layout where there are several), "braidlm", or a format's name."""
    check_format(format)
    model.require_no_adapters("saved")
    with whole_directory(Path(directory)) as place:
        try:
            if format == "braidlm":
                _save_own(model, origin, place, progress)
            else:
                _save_published(model, origin, place, format, progress)
            if tokenizer is not None:
                tokenizer.save(place)
        except OSError as error:
            raise InputError(f"cannot write {directory}: {error.strerror or error}") from None


def check_format(format: str) -> None:
    """`InputError` unless there is a format of this name."""
    known = ["hf", "braidlm", *(family.name for family in families.families())]
    if format not in known:
        raise InputError(f"format is {format!r}, but must be one of {', '.join(known)}")


def best_format(spec: ModelSpec) -> str:
    """The format "hf" where a published layout can hold such a model, else "braidlm"."""
    try:
        families.for_spec(spec, None)
    except SpecError:
        return "braidlm"
    return "hf"


def own_names(model: Model) -> list[families.NameRule]:
    """Name rules of braidlm's own format: every weight under the model's own name."""
    return [rename(name, name) for name, _ in model.named_weights()]


def _save_own(model: Model, origin: Origin, place: Path, progress: ProgressFunction | None) -> None:
    metadata: dict[str, Any] = {
        "format": OWN_VERSION,
        "spec": model.spec.to_json(),
        "origin": {"format": origin.format, "config": origin.config, "ends": list(origin.ends)},
    }
    quantized = describe_quantized(model)
    if quantized is not None:
        metadata["quantization"] = quantized
    if origin.usable_length is not None:
        metadata[KEY] = origin.usable_length
    (place / OWN_FILE).write_text(json.dumps(metadata, indent=1))
    binding.write_safetensors(place, list(binding.export(model, own_names(model))), progress)


def _save_published(model: Model, origin: Origin, place: Path, format: str, progress: ProgressFunction | None) -> None:
    require_plain(model, f"the format {format}")
    # "hf" keeps the format that a model came in, unless that is the original state-spaces one.
    preferred = None if format == "hf" else format
    if format == "hf" and origin.format is not None and not origin.format.endswith("-original"):
        preferred = origin.format
    try:
        family, config = families.for_spec(model.spec, preferred)
    except SpecError:
        if format != "hf":
            raise
        family, config = families.for_spec(model.spec, None)  # a model that has been changed since it came
    # Keys that we do not compute with (token ids, say) are passed on as they came.
    kept = {key: value for key, value in origin.config.items() if origin.format == family.name and key not in config}
    stale = {"rope_parameters", "dtype", "torch_dtype", "transformers_version"}
    config = {key: value for key, value in kept.items() if key not in stale} | config
    if origin.ends:
        config["eos_token_id"] = origin.ends[0] if len(origin.ends) == 1 else list(origin.ends)
    if origin.usable_length is not None:
        config[KEY] = origin.usable_length
    config["torch_dtype"] = name_of(model.dtype)
    (place / "config.json").write_text(json.dumps(config, indent=2))
    tensors = list(binding.export(model, family.names(model.spec)))
    if family.weights_file.endswith(".bin"):
        binding.write_pickle(place, tensors)
    else:
        binding.write_safetensors(place, tensors, progress)
