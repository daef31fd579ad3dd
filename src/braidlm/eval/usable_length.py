"""Usable length of a model: up to where its perplexity by position does not rise, and its recall holds.

Both are measured at the same increasing lengths. Perplexity is that of the positions between one length and the next,
over all sequences; recall is that of haystacks of each length.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from torch import Tensor

from ..api.language_model import LanguageModel
from ..errors import InputError
from ..generation.bounds import check_length
from ..model.model import Model
from ..system.progress import ProgressFunction
from .grid import Items
from .likelihood import Likelihood, likelihood
from .recall import RecallScore, recall

PERPLEXITY = "perplexity"
# Relative error of products of shares, which must not make a break of a tie.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Criteria of usable lengths.

    tolerance: by how much of the best earlier one perplexity may rise. recall_share: which share of the best earlier
    one recall must keep.
    """

    tolerance: float = 0.1
    recall_share: float = 0.8

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise InputError(f"the tolerance is {self.tolerance}, but must be a number from 0")
        if not 0 < self.recall_share <= 1:
            raise InputError(f"the share of recall is {self.recall_share}, but must be above 0 and at most 1")


class LengthScore(NamedTuple):
    """Measurement at a length: likelihood of the positions between the length before and this one, recall by task."""

    length: int
    likelihood: Likelihood
    recall: Mapping[str, RecallScore]


class Break(NamedTuple):
    """First length at which a measure (perplexity or a task) fails its criterion, its value there, the best before."""

    measure: str
    length: int
    value: float
    best: float


class LengthReport(NamedTuple):
    """Usable length with its reasons: scores by length, breaks by measure, and tasks that say nothing.

    usable_length: the greatest measured length before the first break. unanswered: tasks of which no question was
    answered at any length, which therefore do not count.
    """

    usable_length: int
    criteria: Criteria
    scores: tuple[LengthScore, ...]
    breaks: tuple[Break, ...]
    unanswered: tuple[str, ...]


def increasing(lengths: Iterable[int]) -> list[int]:
    """Lengths in increasing order; `InputError` unless there are two or more, of at least 2 tokens each."""
    found = sorted(set(lengths))
    if len(found) < 2 or found[0] < 2:
        raise InputError(f"the lengths are {found}, but must be at least two, each of at least 2 tokens")
    return found


def measure_lengths(
    model: Model | LanguageModel,
    sequences: Sequence[Tensor],
    items: Items,
    lengths: Sequence[int],
    progress: ProgressFunction | None = None,
    *,
    kv_dtype: str | None = None,
) -> list[LengthScore]:
    """Measures perplexity by position over sequences of token ids, [T] each, and recall of items, at `lengths`.

    `items` has the haystacks of each task and length (see `grid.grid_items`). `progress(done, total)` is called for
    each sequence and haystack. `InputError` for a sequence shorter than the greatest length, `ContextLengthError` if
    that is more than the model declares.
    """
    lengths = increasing(lengths)
    spec = model.spec
    check_length(lengths[-1], spec.max_positions)
    if any(len(sequence) < lengths[-1] for sequence in sequences) or not sequences:
        raise InputError(f"a sequence is shorter than the greatest length, {lengths[-1]} tokens; give longer texts")
    total = len(sequences) + sum(map(len, items.values()))
    rows = [sequence[: lengths[-1]] for sequence in sequences]
    step = _from(0, total, progress)
    buckets = likelihood(model, rows, step, kv_dtype=kv_dtype, borders=lengths[:-1]).buckets
    found: dict[tuple[str, int], RecallScore] = {}
    done = len(sequences)
    for key, group in items.items():
        found[key] = recall(model, group, _from(done, total, progress), kv_dtype=kv_dtype).whole
        done += len(group)
    return [
        LengthScore(length, bucket, {task: one for (task, size), one in found.items() if size == length})
        for length, bucket in zip(lengths, buckets, strict=True)
    ]


def usable_length(scores: Sequence[LengthScore], criteria: Criteria) -> LengthReport:
    """Judges scores of increasing lengths by the criteria."""
    tasks = list(scores[0].recall)
    unanswered = tuple(task for task in tasks if not any(one.recall[task].exact for one in scores))
    highest, lowest = (1 + criteria.tolerance) * (1 + _ROUNDING), criteria.recall_share * (1 - _ROUNDING)
    perplexities = [(one.length, one.likelihood.perplexity) for one in scores]
    found = [_first_break(PERPLEXITY, perplexities, min, lambda value, best: value <= best * highest)]
    for task in tasks:
        shares = [(one.length, one.recall[task].exact) for one in scores]
        found.append(_first_break(task, shares, max, lambda value, best: value >= best * lowest))
    breaks = [one for one in found if one is not None]
    end = min((one.length for one in breaks), default=scores[-1].length + 1)
    usable = max(one.length for one in scores if one.length < end)
    return LengthReport(usable, criteria, tuple(scores), tuple(breaks), unanswered)


def _first_break(
    measure: str,
    values: Sequence[tuple[int, float]],
    better: Callable[[float, float], float],
    holds: Callable[[float, float], bool],
) -> Break | None:
    """The first value that does not hold beside the best before it; a value that is no number never does."""
    bests = list(accumulate((value for _, value in values), better))
    for (length, value), best in zip(values[1:], bests):
        if not holds(value, best):
            return Break(measure, length, value, best)
    return None


def _from(done: int, total: int, progress: ProgressFunction | None) -> ProgressFunction | None:
    """Progress of a part of the work, which begins when so much of it is done."""
    if progress is None:
        return None
    return lambda part, _: progress(done + part, total)
