"""Recall over long texts: each haystack is read once, and every question goes on from its state.

An answer counts as exact if the model gives each of its tokens the greatest probability of all, which is the case just
when greedy generation writes it. So one pass over question and answer, teacher-forced, tells both what generation
would give and how far off a small model is.

Legend: T = tokens of the answers of several questions, D = width.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..api.language_model import LanguageModel
from ..errors import ContextLengthError, InputError
from ..model.model import Model
from ..state.batch import BatchState
from ..system.progress import ProgressFunction
from .item import Item, Question
from .reader import Reader
from .scores import Interval, wilson
from .sequences import PASS


class Answer(NamedTuple):
    """How a model answers a question.

    item: the number of its haystack. exact: greedy generation gives the answer's tokens. accuracy: share of the
    answer's tokens that are the most likely ones, given those before. nats: mean negative log likelihood of a token of
    the answer.
    """

    item: int
    depth: float | None
    exact: bool
    accuracy: float
    nats: float


class RecallScore(NamedTuple):
    """Score of several answers: the share of exact ones with its interval at 95%, and the means of the rest."""

    questions: int
    exact: float
    interval: Interval
    accuracy: float
    nats: float


class RecallReport(NamedTuple):
    """Answers to all questions of all items, and the number of tokens that were run for them."""

    answers: tuple[Answer, ...]
    computed: int

    @property
    def whole(self) -> RecallScore:
        """Score of all answers."""
        return score(self.answers)

    @property
    def by_depth(self) -> dict[float | None, RecallScore]:
        """Score of the answers at each depth."""
        return by_depth(self.answers)


def recall(
    model: Model | LanguageModel,
    items: Sequence[Item],
    progress: ProgressFunction | None = None,
    *,
    kv_dtype: str | None = None,
) -> RecallReport:
    """Asks all questions of the items; `progress(done, total)` is called for each item.

    `ContextLengthError` before any is run if one does not fit the model's declared length: nothing is cut off.
    """
    reader = Reader(model, kv_dtype)
    _require_room(items, reader.max_positions)
    answers: list[Answer] = []
    for number, item in enumerate(items):
        state = reader.new_state(1)
        reader.advance(torch.tensor(item.haystack), state, PASS)
        for questions in _together(item.questions):
            answers += _answers(reader, state, number, questions)
        if progress is not None:
            progress(number + 1, len(items))
    return RecallReport(tuple(answers), reader.computed)


def score(answers: Sequence[Answer]) -> RecallScore:
    """Score of several answers."""
    count, exact = len(answers), sum(one.exact for one in answers)
    if not count:
        raise InputError("there are no answers to score")
    means = [sum(values) / count for values in zip(*((one.accuracy, one.nats) for one in answers), strict=True)]
    return RecallScore(count, exact / count, wilson(exact, count), *means)


def by_depth(answers: Sequence[Answer]) -> dict[float | None, RecallScore]:
    """Score of the answers at each depth, from the beginning on."""
    depths = sorted({one.depth for one in answers}, key=lambda depth: -1.0 if depth is None else depth)
    return {depth: score([one for one in answers if one.depth == depth]) for depth in depths}


def _require_room(items: Sequence[Item], limit: int | None) -> None:
    longest = max((item.tokens for item in items), default=0)
    if limit is not None and longest > limit:
        raise ContextLengthError(
            f"an item has {longest} tokens with its question, but the model declares that it can take {limit}; "
            "ask for a smaller length, since nothing is cut off"
        )


def _together(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Questions that share a pass: at most `PASS` tokens, or one question."""
    group: list[Question] = []
    tokens = 0
    for question in questions:
        size = len(question.prompt) + len(question.answer)
        if group and tokens + size > PASS:
            yield group
            group, tokens = [], 0
        group.append(question)
        tokens += size
    if group:
        yield group


def _answers(reader: Reader, state: BatchState, number: int, questions: Sequence[Question]) -> Iterator[Answer]:
    """Answers to questions, each from a fork of the haystack's state."""
    rows = [torch.tensor(one.prompt + one.answer[:-1]) for one in questions]
    hidden_rows = reader.hidden(rows, state.select([0] * len(rows))).split(list(map(len, rows)))
    sizes = [len(one.answer) for one in questions]
    hidden_TD = torch.cat([hidden[-size:] for hidden, size in zip(hidden_rows, sizes, strict=True)])
    targets_T = torch.tensor([token for one in questions for token in one.answer])
    right_T, nats_T = _judged(reader, hidden_TD, targets_T)
    for question, right, nats in zip(questions, right_T.split(sizes), nats_T.split(sizes), strict=True):
        means = float(right.double().mean()), float(nats.mean())
        yield Answer(number, question.depth, bool(right.all()), *means)


def _judged(reader: Reader, hidden_TD: Tensor, targets_T: Tensor) -> tuple[Tensor, Tensor]:
    """Of each token of the answers: whether it is the most likely one, and its negative log likelihood."""
    right, nats = [], []
    for piece in reader.slices(len(targets_T)):
        logs_TV = reader.logs(hidden_TD[piece])
        right.append(logs_TV.argmax(-1) == targets_T[piece])
        nats.append(-logs_TV.gather(-1, targets_T[piece, None])[:, 0].double())
    return torch.cat(right), torch.cat(nats)
