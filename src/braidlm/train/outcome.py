"""Outcome of a run as files: a model, an adapter or an initial state, with a model card and the loss curve."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import adapters
from ..adapters import Adapters
from ..api.language_model import LanguageModel
from ..checkpoints.saving import best_format, save
from ..model.assign import assign
from ..model.footprint import parameter_dtypes, skeleton
from ..model.model import Model
from . import implicit, report
from .base import Base
from .config import Config
from .results import ADAPTER, INITIAL, MODEL


class Outcome(NamedTuple):
    """Outcome of a run at a step: its model, with the lines of its log until then and the sources of its data.

    base: model that the run began with. weights: all of a model that was trained whole, by name; empty where something
    beside a frozen one was.
    """

    config: Config
    language: LanguageModel
    base: Base | None
    model: Model
    adapters: Adapters | None
    weights: dict[str, Any]
    log: Sequence[report.Line]
    sources: Sequence[str]


def names(config: Config) -> list[str]:
    """Names of the files that a run writes for what is trained; the first one gets the model card."""
    if config.adapter is not None:
        return [ADAPTER, *([INITIAL] if config.initial_state is not None else [])]
    return [INITIAL if config.initial_state is not None else MODEL]


def is_whole(config: Config) -> bool:
    """Whether the model itself is trained, and not something beside it."""
    return names(config) == [MODEL]


def trains_all(config: Config) -> bool:
    """Whether every weight is trained, so that checkpoints have all of them and the base is not needed again."""
    return is_whole(config) and all(group.lr for group in config.optimizer.groups)


def write_model(outcome: Outcome, place: Path) -> None:
    """Writes the model to a directory, in the published layout of its family where there is one, with its card."""
    config, spec = outcome.config, outcome.model.spec
    implicit_filters = config.model.filters == "implicit"
    lost = implicit.fit_modes(outcome.model, outcome.weights) if implicit_filters else None
    model = skeleton(spec)
    dtypes = parameter_dtypes(model, getattr(torch, config.run.dtype))
    for name, value in outcome.weights.items():
        assign(model, name, value.to(dtypes[name]))
    origin = outcome.language.origin.without_measurements()
    save(model, outcome.language.tokenizer, origin, place, best_format(spec))
    describe(outcome, place, lost=lost)


def write_adapter(outcome: Outcome, place: Path, initial: str) -> None:
    """Writes the adapter to a directory in peft's layout, with its card.

    `initial` is where, seen from there, an initial state lies that was trained with it.
    """
    assert outcome.adapters is not None
    adapters.save_adapter(outcome.adapters, place)
    state = ["--state", initial] if outcome.config.initial_state is not None else []
    describe(outcome, place, ["--adapter", ".", *state])


def write_initial(outcome: Outcome, file: Path) -> None:
    """Writes the learned initial state to one file."""
    adapters.save_initial(outcome.model, file)


def describe(outcome: Outcome, place: Path, options: Sequence[str] = (), lost: float | None = None) -> None:
    """Writes a model card and the loss curve to a directory. `options` make `braid generate` use what lies there."""
    report.draw(outcome.log, place / report.CURVE)
    base, spec = outcome.base, outcome.model.spec
    card = report.card(outcome.config, spec, outcome.log, outcome.sources, base, options, lost)
    (place / report.CARD).write_text(card, encoding="utf-8")
