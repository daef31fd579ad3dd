"""Filters of models: of a run with implicit ones, or of a model that has modes already; and the model with new modes.

Legend: F = filters, L = positions, M = modes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...api.loading import load
from ...checkpoints.saving import Origin, best_format, save
from ...errors import InputError
from ...layers.layer import ModalMixer
from ...model.assign import assign
from ...model.footprint import parameter_dtypes, skeleton
from ...model.model import Model
from ...ops.linear.quantized import QuantizedWeight
from ...quant.policy import quantized_weights
from ...spec import ModelSpec
from ...system.files import whole_directory
from ...text.tokenizer import Tokenizer
from ...train import checkpoints, outcome, plan
from ...train.export import load_outcome
from ...train.implicit import put_modes, take_filters
from ...train.modal import Modes, impulse_response

REPORT = "filters.json"
_LENGTH = 2048


@dataclass(frozen=True)
class ModelFilters:
    """A model whose filters are to become modes: filters [F, L] by the name of their mixer, and all its weights."""

    kind: str
    filters: dict[str, Tensor]
    model: Model
    weights: dict[str, Tensor | QuantizedWeight]
    dtype: torch.dtype
    tokenizer: Tokenizer | None
    origin: Origin

    def write(self, target: Path, modes: Mapping[str, Modes], facts: Mapping[str, Any]) -> None:
        """Writes the model with these modes to a directory, in its published layout where that can hold it."""
        weights = dict(self.weights)
        spec = self.model.spec
        for name, found in modes.items():
            put_modes(weights, name, found)
            spec = _with_order(spec, name, found.poles_FM.shape[1])
        made = skeleton(spec)
        dtypes = parameter_dtypes(made, self.dtype)
        for name, weight in weights.items():
            assign(made, name, weight.to(dtypes[name]) if isinstance(weight, Tensor) else weight)
        with whole_directory(target) as place:
            format = "braidlm" if quantized_weights(made) else best_format(spec)
            save(made, self.tokenizer, self.origin, place, format)
            (place / REPORT).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def is_run(path: Path) -> bool:
    """Whether a path is a run's TOML file, its directory, or one of its checkpoints."""
    toml = path.suffix == ".toml" and path.is_file()
    return toml or checkpoints.is_checkpoint(path) or checkpoints.latest(path / "checkpoints") is not None


def of_run(path: Path, length: int | None) -> ModelFilters:
    """Filters of a run at its last checkpoint, or at the one that is named."""
    step = None
    if checkpoints.is_checkpoint(path):
        step, _ = plan.stored(path)
        path = path.parent.parent
    made = load_outcome(plan.read_any(path), step)
    if not outcome.is_whole(made.config):
        raise InputError(f"{path} trains beside a frozen model; name that model, whose filters are its own")
    weights: dict[str, Tensor | QuantizedWeight] = {name: weight.detach() for name, weight in made.weights.items()}
    kind, filters = "run with modal filters", _of_modes(made.model, weights, length)
    if made.config.model.filters == "implicit":
        kind = "run with implicit filters"
        filters = {name: _shortened(name, taps, length) for name, taps, _ in take_filters(made.model, weights)}
    dtype = getattr(torch, made.config.run.dtype)
    return ModelFilters(kind, filters, made.model, weights, dtype, made.language.tokenizer, made.language.origin)


def of_model(name: str, length: int | None) -> ModelFilters:
    """Filters of a model that has modes, over as many positions as it declares, or 2,048."""
    language = load(name)
    network = language.network
    weights: dict[str, Tensor | QuantizedWeight] = {**dict(network.named_parameters()), **quantized_weights(network)}
    filters = _of_modes(network, weights, length)
    return ModelFilters(
        "model with modes", filters, network, weights, network.dtype, language.tokenizer, language.origin
    )


def _of_modes(model: Model, weights: Mapping[str, Any], length: int | None) -> dict[str, Tensor]:
    positions = length or model.spec.max_positions or _LENGTH
    names = [name for name, module in model.named_modules() if isinstance(module, ModalMixer)]
    if not names:
        raise InputError("the model has no Hyena blocks, whose filters alone can become modes")
    found = {}
    for name in names:
        poles, residues = (torch.view_as_complex(weights[f"{name}.{part}"].float()) for part in ("poles", "residues"))
        zero = torch.zeros(len(poles))
        found[name] = impulse_response(Modes(poles, residues, zero, zero, zero), positions)
    return found


def _shortened(name: str, filters_FL: Tensor, length: int | None) -> Tensor:
    if length is not None and length > filters_FL.shape[1]:
        raise InputError(f"length is {length}, but {name} was trained on {filters_FL.shape[1]} positions")
    return filters_FL[:, :length]


def _with_order(spec: ModelSpec, name: str, order: int) -> ModelSpec:
    """Spec whose mixer of this name, "blocks.3.mixer", has filters of `order` modes."""
    index = int(name.split(".")[1])
    mixer: Any = spec.blocks[index].mixer
    return spec.replace_block(index, mixer=replace(mixer, d_state=order))
