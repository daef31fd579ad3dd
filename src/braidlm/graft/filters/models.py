"""Filters of models: of a run with implicit ones, or of a model that has modes already; and the model with new modes.

Legend: F = filters, L = positions, M = modes.
"""

import json
from collections.abc import Iterator, Mapping
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
from ...system.dtypes import long_name, torch_dtype
from ...system.files import whole_directory
from ...text.tokenizer import Tokenizer
from ...train import checkpoints, outcome, plan
from ...train.export import load_outcome
from ...train.implicit import put_modes, take_filters
from ...train.modal import Modes, impulse_response
from . import report

CARD, REPORT = "README.md", "filters.json"
# Positions of filters that have no length of their own, where the model declares none, and at most.
_LENGTH, _MOST_LENGTH = 2048, 8192
_DTYPES = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class ModelFilters:
    """A model whose filters are to become modes: filters [F, L] by the name of their mixer, and all its weights."""

    kind: str
    filters: Mapping[str, Tensor]
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
            save(made, self.tokenizer, self.origin.without_measurements(), place, format)
            (place / CARD).write_text(report.card(facts, target.absolute().name), encoding="utf-8")
            (place / REPORT).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def is_run(path: Path) -> bool:
    """Whether a path is a run's TOML file, its directory, or one of its checkpoints."""
    toml = path.suffix == ".toml" and path.is_file()
    return toml or checkpoints.is_checkpoint(path) or checkpoints.latest(path / "checkpoints") is not None


def of_run(path: Path, length: int | None, dtype: str) -> ModelFilters:
    """Filters of a run at its last checkpoint, or at the one that is named; `dtype` "auto" is that of the run."""
    if dtype != "auto" and long_name(dtype) not in _DTYPES:
        raise InputError(f"dtype is {dtype!r}, but must be auto or one of {', '.join(_DTYPES)}")
    step = None
    if checkpoints.is_checkpoint(path):
        step, _ = plan.stored(path)
        path = path.parent.parent
    made = load_outcome(plan.read_any(path), step)
    if not outcome.is_whole(made.config):
        raise InputError(f"{path} trains beside a frozen model; name that model, whose filters are its own")
    weights: dict[str, Tensor | QuantizedWeight] = {name: weight.detach() for name, weight in made.weights.items()}
    filters: Mapping[str, Tensor]
    if made.config.model.filters == "implicit":
        kind = "run with implicit filters"
        filters = {name: _shortened(name, taps, length) for name, taps, _ in take_filters(made.model, weights)}
    else:
        kind, filters = "run with modes", _ModalFilters(made.model, weights, length)
    stored = torch_dtype(made.config.run.dtype if dtype == "auto" else long_name(dtype))
    return ModelFilters(kind, filters, made.model, weights, stored, made.language.tokenizer, made.language.origin)


def of_model(name: str, length: int | None, dtype: str) -> ModelFilters:
    """Filters of a model that has modes, over the positions that it declares (at most 8,192), or 2,048 of them."""
    language = load(name, dtype)
    network = language.network
    weights: dict[str, Tensor | QuantizedWeight] = {**dict(network.named_parameters()), **quantized_weights(network)}
    filters = _ModalFilters(network, weights, length)
    return ModelFilters(
        "model with modes", filters, network, weights, network.dtype, language.tokenizer, language.origin
    )


class _ModalFilters(Mapping[str, Tensor]):
    """Filters of modes among weights, by the name of their mixer, each computed when it is asked for."""

    def __init__(self, model: Model, weights: Mapping[str, Any], length: int | None) -> None:
        self._weights = weights
        self._positions = length or min(model.spec.max_positions or _LENGTH, _MOST_LENGTH)
        self._names = [name for name, module in model.named_modules() if isinstance(module, ModalMixer)]
        if not self._names:
            raise InputError("the model has no Hyena blocks, whose filters alone can become modes")

    def __getitem__(self, name: str) -> Tensor:
        poles, residues = (self._weights[f"{name}.{part}"].float() for part in ("poles", "residues"))
        zero = torch.zeros(len(poles))
        modes = Modes(torch.view_as_complex(poles), torch.view_as_complex(residues), zero, zero, zero)
        return impulse_response(modes, self._positions)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _shortened(name: str, filters_FL: Tensor, length: int | None) -> Tensor:
    if length is not None and length > filters_FL.shape[1]:
        raise InputError(f"length is {length}, but {name} was trained on {filters_FL.shape[1]} positions")
    return filters_FL[:, :length]


def _with_order(spec: ModelSpec, name: str, order: int) -> ModelSpec:
    """Spec whose mixer of this name, "blocks.3.mixer", has filters of `order` modes."""
    index = int(name.split(".")[1])
    mixer: Any = spec.blocks[index].mixer
    return spec.replace_block(index, mixer=replace(mixer, d_state=order))
