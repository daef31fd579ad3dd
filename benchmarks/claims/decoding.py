"""Decoding after long contexts: steps of many sequences whose keys and values are there without a prompt being read.

States are random and lie in each sequence's own memory, as after prompts of its own: a step reads them all, whatever
they are.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from braidlm import LanguageModel
from braidlm.decode.slots import slots_of
from braidlm.planner.synthetic_state import synthetic_state
from braidlm.spec import ModelSpec
from braidlm.state.sequence import SequenceState
from braidlm.system.memory import without_huge_pages

from .numbers import counted, positive
from .random_models import WEIGHTS, random_model, small

MODELS = Path.home() / ".cache" / "braidlm-claims"


@dataclass(frozen=True)
class Side:
    """Side of a comparison: a model's name and its full shape."""

    name: str
    spec: ModelSpec


def add_options(parser: argparse.ArgumentParser, *, weights: str, steps: int, rounds: int) -> None:
    """Adds the options that all measurements of decoding have."""
    parser.add_argument("--weights", choices=WEIGHTS, default=weights, help=f"dtype of weights (default: {weights})")
    parser.add_argument("--kv-dtype", default="bfloat16", help="dtype of keys and values (default: bfloat16)")
    parser.add_argument("--steps", type=positive, default=steps, help=f"timed steps of a piece (default: {steps})")
    parser.add_argument("--rounds", type=positive, default=rounds, help=f"rounds of turns (default: {rounds})")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="number of threads")
    parser.add_argument("--models", type=Path, default=MODELS, help=f"directory of random weights (default: {MODELS})")
    parser.add_argument("--tiny", action="store_true", help="small models, to see that the command works")


def specs_of(sides: Sequence[Side], given: argparse.Namespace) -> dict[str, ModelSpec]:
    """Specs of the sides by name: those of the published shapes, or small ones."""
    torch.set_num_threads(given.threads)
    return {side.name: small(side.spec) if given.tiny else side.spec for side in sides}


def models_of(specs: Mapping[str, ModelSpec], given: argparse.Namespace) -> Callable[[str], LanguageModel]:
    """Models of the sides by name, memory-mapped; each is loaded when it is first asked for."""
    place = given.models / "tiny" if given.tiny else given.models

    @cache
    def model_of(name: str) -> LanguageModel:
        return random_model(name, specs[name], given.weights, place)

    return model_of


def filled(model: LanguageModel, context: int, rows: int, kv_dtype: str | None = None) -> list[SequenceState]:
    """States of `rows` sequences that hold `context` tokens each, in memory of their own."""
    begun = model.new_state(1, kv_dtype).sequences[0]
    return [synthetic_state(begun, context, torch.bfloat16, row) for row in range(rows)]


def step_seconds(model: LanguageModel, context: int, rows: int, steps: int, kv_dtype: str) -> float:
    """Seconds of a greedy step of `rows` sequences that have seen `context` tokens; the first step is not timed."""
    like = model.new_state(1, kv_dtype)
    with torch.no_grad(), without_huge_pages(True):  # weights stay where they are mapped
        slots, busy = slots_of(model.network, like, rows), list(range(rows))
        for slot, state in enumerate(filled(model, context, rows, kv_dtype)):
            slots.set_state(slot, state)
        ids = slots.step(torch.zeros(rows, dtype=torch.int64), busy).argmax(-1)
        begun = time.perf_counter()
        for _ in range(steps):
            ids = slots.step(ids, busy).argmax(-1)
        return (time.perf_counter() - begun) / steps


def in_turns(names: Sequence[str], rounds: int, measure: Callable[[str, int], float]) -> dict[str, list[float]]:
    """What `measure` gives for each name in each round; the names take turns."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            found[name].append(measure(name, number))
    return found


def settings_text(given: argparse.Namespace) -> str:
    """Settings of a measurement, for the page's conditions."""
    return (
        f"random weights of the full shape in {given.weights}, memory-mapped; keys and values in {given.kv_dtype}; "
        f"greedy steps, {given.steps} a piece, {counted(given.rounds, 'round')}"
    )
