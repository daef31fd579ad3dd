"""What a run has made, as files: a model, an adapter, an initial state, with a card and the curve of losses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import adapters, families
from ..adapters import Adapters
from ..api import LanguageModel
from ..checkpoint import assign
from ..describe import parameter_dtypes, skeleton
from ..errors import SpecError
from ..model import Model
from ..saving import save
from ..spec import ModelSpec
from . import implicit, report
from .config import Config

ADAPTER, INITIAL, MODEL = "adapter", "initial.safetensors", "model"


class Outcome(NamedTuple):
    """A run's model at a step, with what describes it: the lines of its log until then, the sources of its data.

    weights: all of a model that was trained whole, by name; empty where something beside a frozen one was.
    """

    config: Config
    language: LanguageModel
    model: Model
    adapters: Adapters | None
    weights: dict[str, Any]
    log: Sequence[report.Line]
    sources: Sequence[str]


def names(config: Config) -> list[str]:
    """What is trained, as files in the directory of a run; the first one is described."""
    if config.adapter is not None:
        return [ADAPTER, *([INITIAL] if config.initial_state is not None else [])]
    return [INITIAL if config.initial_state is not None else MODEL]


def is_whole(config: Config) -> bool:
    """Whether every weight is trained."""
    return names(config) == [MODEL]


def write_model(outcome: Outcome, place: Path) -> None:
    """A directory that holds the model, in the published layout of its family where there is one, with its card."""
    config, spec = outcome.config, outcome.model.spec
    implicit_filters = config.model.filters == "implicit"
    lost = implicit.settle(outcome.model, outcome.weights) if implicit_filters else None
    model = skeleton(spec)
    dtypes = parameter_dtypes(model, getattr(torch, config.run.dtype))
    for name, value in outcome.weights.items():
        assign(model, name, value.to(dtypes[name]))
    save(model, outcome.language.tokenizer, outcome.language.origin, place, _form(spec))
    describe(outcome, place, "", lost)


def write_adapter(outcome: Outcome, place: Path) -> None:
    """A directory that holds the adapter in peft's layout, with its card."""
    assert outcome.adapters is not None
    adapters.save(outcome.adapters, place)
    describe(outcome, place, "--adapter .")


def write_initial(outcome: Outcome, file: Path) -> None:
    """The learned initial state, one file."""
    adapters.save_initial(outcome.model, file)


def describe(outcome: Outcome, place: Path, options: str, lost: float | None = None) -> None:
    """A card and the curve of losses in a directory. `options` make `braid generate` use what lies there."""
    report.draw(outcome.log, place / report.CURVE)
    card = report.card(outcome.config, outcome.model.spec, outcome.log, outcome.sources, options, lost)
    (place / report.CARD).write_text(card, encoding="utf-8")


def _form(spec: ModelSpec) -> str:
    """The published layout that can hold such a model, or ours."""
    try:
        families.for_spec(spec, None)
    except SpecError:
        return "braidlm"
    return "hf"
