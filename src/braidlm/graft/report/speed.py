"""State and decode speed of models at some lengths of the context.

All models decode in turns, so that what else the machine does hits all of them; a ratio is taken within a round.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...api.language_model import LanguageModel
from ...checkpoints.saving import Origin
from ...errors import InputError
from ...eval.reader import Reader
from ...eval.sequences import PASS
from ...generation.bounds import check_length
from ...state.batch import BatchState
from ...state.sequence import Precision
from .settings import Report

# Tokens that are decoded before the clock is read: the first comes out of prefill, the second brings the state along.
_BEFORE = 2


def state_of(model: LanguageModel, length: int) -> dict[str, Any]:
    """Bytes of the state of one sequence of `length` tokens, in the precision that the model runs in."""
    check_length(length, model.spec.max_positions)
    precision = Precision.of(model.network.dtype)
    return {"bytes": model.spec.state_bytes(length, dtype=precision.name, kv_dtype=precision.kv)}


class Contexts:
    """States of models after so many tokens of a text, which go on from length to length: no token is read twice."""

    def __init__(self, models: Mapping[str, LanguageModel], texts: Sequence[Tensor], seconds: float) -> None:
        """`texts` are repeated as often as a length needs; `seconds` are what a model may take for a length."""
        self._readers = {name: Reader(model) for name, model in models.items()}
        self._states: dict[str, BatchState] = {}
        self._ids_T, self._seconds = torch.cat(list(texts)), seconds

    def state(self, name: str, length: int) -> BatchState:
        """State of a model after `length` tokens; `InputError` if that takes too long or is more than it declares."""
        reader = self._readers[name]
        check_length(length, reader.max_positions)
        state = self._states.get(name)
        if state is None or state.lengths[0] > length:
            state = self._states[name] = reader.new_state(1)
        end = time.monotonic() + self._seconds
        while state.lengths[0] < length:
            if time.monotonic() > end:
                raise InputError(f"it did not read {length} tokens within {self._seconds:g} s (report.speed_seconds)")
            begin = state.lengths[0]
            positions_T = torch.arange(begin, min(begin + PASS, length)) % len(self._ids_T)
            reader.advance(self._ids_T[positions_T], state, PASS)
        return state

    def token(self, position: int) -> Tensor:
        """Token of the text at a position, [1]."""
        return self._ids_T[position % len(self._ids_T), None]


def speed_of(models: Mapping[str, LanguageModel], contexts: Contexts, settings: Report, length: int) -> dict[str, Any]:
    """Tokens a second of each model in every round, for the last tokens before its context is `length` tokens long."""
    begin, left_out, runs = length - settings.speed_tokens - 1, dict[str, str](), dict[str, Callable[[], float]]()
    for name, model in models.items():
        try:
            check_length(length, model.spec.max_positions)
            run = partial(_rate, model, contexts.state(name, begin), contexts.token(begin), settings.speed_tokens)
            run()  # warms up
            runs[name] = run
        except InputError as error:
            left_out[name] = str(error)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(settings.speed_rounds):
        for name in runs if turn % 2 else reversed(runs):
            rates[name].append(runs[name]())
    return {"threads": torch.get_num_threads(), "rates": rates, "left_out": left_out}


def _rate(model: LanguageModel, state: BatchState, last: Tensor, count: int) -> float:
    """Tokens a second of `count` tokens after a state and a last token, without the first ones."""
    # Ids only, and no id ends a text, so that each run makes all its tokens.
    plain = LanguageModel(model.network, None, Origin(), ops=model.ops)
    tokens = plain.stream(last, state=state.fork(), max_tokens=count, temperature=0.0)
    for _ in itertools.islice(tokens, _BEFORE):
        pass
    begun = time.perf_counter()
    made = sum(1 for _ in tokens)
    return made / (time.perf_counter() - begun)


def ratios(rates: Mapping[str, Sequence[float]], name: str, baseline: str) -> dict[str, float] | None:
    """How many times faster a model decodes than another, round by round: median, least and most; None without both."""
    if not rates.get(name) or not rates.get(baseline):
        return None
    found = [one / other for one, other in zip(rates[name], rates[baseline], strict=True)]
    return {"median": statistics.median(found), "least": min(found), "most": max(found)}
