"""Measuring of the subjects of a report, one measurement after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor

from ...api.language_model import LanguageModel
from ...errors import InputError
from ...system.digest import digest
from . import quality, speed
from .measurement import Measurement, Told, carry_out
from .settings import Report
from .subjects import DONOR, TITLES, Subjects


def measure(
    subjects: Subjects, texts: Sequence[Tensor], settings: Report, place: Path, told: Told = lambda _: None
) -> dict[str, Any]:
    """Measures the subjects; the file `place` has every measurement before the next begins, and those in it stand.

    `texts` are sequences of held-out token ids, [T] each, of which the first `settings.tokens` tokens are read.
    `told(sentence)` is called before each measurement. The result has, for each part that was asked for, what the
    part's function in `quality` and `speed` found: of "text", "generation" and "answers" by subject, of "recall" and
    "state" a list by subject, of "speed" a list; and under "subjects" the titles, null for a subject that there is not.
    """
    kept = _first(texts, settings.tokens)
    models = subjects.present()
    if "text" in settings.parts or "speed" in settings.parts:
        _require_text(kept)
    digests = {name: model.network.weights.base_fingerprint() for name, model in models.items()}
    plan = _Plan(models, digests, kept, settings)
    asked = [one for part in settings.parts for one in plan.of(part)]
    results = list(zip(asked, carry_out(asked, place, told), strict=True))
    titles = {name: TITLES[name] if name in models else None for name in TITLES}
    return {"subjects": titles, **{part: _gathered(part, results) for part in settings.parts}}


def _first(texts: Sequence[Tensor], count: int) -> list[Tensor]:
    """The first tokens of texts; of the last one as many as are left, if there is something to predict."""
    kept, left = list[Tensor](), count
    for text in texts:
        if min(left, len(text)) >= 2:
            kept.append(text[:left])
            left -= len(kept[-1])
    return kept


def _require_text(texts: Sequence[Tensor]) -> None:
    if not texts:
        raise InputError("the report has no held-out text of at least 2 tokens to measure on")


class _Plan:
    """Measurements of each part."""

    def __init__(
        self, models: Mapping[str, LanguageModel], digests: Mapping[str, str], texts: Sequence[Tensor], settings: Report
    ) -> None:
        self._models, self._digests, self._texts, self._settings = models, digests, texts, settings
        self._text_digest = digest("texts", ((str(number), text) for number, text in enumerate(texts)))
        self._contexts = speed.Contexts(models, texts, settings.speed_seconds) if texts else None

    def of(self, part: str) -> Iterator[Measurement]:
        """Measurements of a part."""
        makers: dict[str, Callable[[], Iterator[Measurement]]] = {
            "text": self._text, "recall": self._recall, "generation": self._generation,
            "state": self._state, "speed": self._speed, "answers": self._answers,
        }  # fmt: skip
        return makers[part]()

    def _text(self) -> Iterator[Measurement]:
        donor = self._models[DONOR]
        for name, model in self._models.items():
            inputs = [self._digests[name], self._digests[DONOR], self._text_digest]
            yield Measurement("text", name, {}, inputs, partial(quality.text_of, model, donor, self._texts))

    def _recall(self) -> Iterator[Measurement]:
        settings = self._settings
        for task, length in product(settings.recall_tasks, settings.recall_lengths):
            for name, model in self._models.items():
                inputs = [self._digests[name], settings.recall_depths, settings.haystacks]
                run = partial(quality.recall_of, model, settings, task, length)
                yield Measurement("recall", name, {"task": task, "length": length}, inputs, run)

    def _generation(self) -> Iterator[Measurement]:
        settings = self._settings
        for name, model in self._models.items():
            inputs = [self._digests[name], settings.generation_prompts, settings.answer_tokens]
            yield Measurement("generation", name, {}, inputs, partial(quality.generation_of, model, settings))

    def _state(self) -> Iterator[Measurement]:
        for (name, model), length in product(self._models.items(), self._settings.lengths):
            inputs = [self._digests[name], str(model.network.dtype)]
            yield Measurement("state", name, {"length": length}, inputs, partial(speed.state_of, model, length))

    def _speed(self) -> Iterator[Measurement]:
        settings, contexts = self._settings, self._contexts
        assert contexts is not None
        for length in sorted(settings.lengths):
            inputs = [self._digests, settings.speed_tokens, settings.speed_rounds, settings.speed_seconds]
            run = partial(speed.speed_of, self._models, contexts, settings, length)
            yield Measurement("speed", None, {"length": length}, inputs, run)

    def _answers(self) -> Iterator[Measurement]:
        settings = self._settings
        for name, model in self._models.items():
            inputs = [self._digests[name], settings.prompts, settings.answer_tokens]
            yield Measurement("answers", name, {}, inputs, partial(quality.answers_of, model, settings))


def _gathered(part: str, results: Sequence[tuple[Measurement, dict[str, Any]]]) -> Any:
    """Results of a part: a list where all models were measured together, a list for each where there are cases."""
    if part == "speed":
        return [result for one, result in results if one.part == part]
    found: dict[str, Any] = {}
    for one, result in results:
        if one.part == part and one.subject is not None:
            if one.case:
                found.setdefault(one.subject, []).append(result)
            else:
                found[one.subject] = result
    return found
