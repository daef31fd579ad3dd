"""Grid of recall: scores of tasks by length and depth, of one or several models on the same items."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..api.language_model import LanguageModel
from ..model.model import Model
from ..system.progress import ProgressFunction
from .item import Item
from .item_maker import ItemMaker
from .recall import Answer, RecallScore, by_depth, recall
from .tasks import DEPTHS, items

# Items by task and length.
Items = Mapping[tuple[str, int], Sequence[Item]]


class Cell(NamedTuple):
    """Score of a task at one length and depth; see `RecallScore`."""

    task: str
    length: int
    depth: float | None
    score: RecallScore


class Grid(NamedTuple):
    """Scores of a model, its answers in the order of the items, and the number of tokens that were run for them."""

    cells: tuple[Cell, ...]
    answers: tuple[Answer, ...]
    computed: int


def grid_items(
    maker: ItemMaker,
    tasks: Sequence[str],
    lengths: Sequence[int],
    count: int,
    *,
    depths: Sequence[float] = DEPTHS,
    seed: int = 0,
) -> Items:
    """Makes `count` haystacks for each task and length."""
    return {
        (task, length): tuple(items(task, maker, length, count, depths=depths, seed=seed))
        for task in tasks
        for length in lengths
    }


def recall_grid(
    model: Model | LanguageModel, items: Items, progress: ProgressFunction | None = None, *, kv_dtype: str | None = None
) -> Grid:
    """Asks all questions of all items; `progress(done, total)` is called for each haystack.

    `ContextLengthError` before any is run if one does not fit the model's declared length: nothing is cut off.
    """
    everything = [item for group in items.values() for item in group]
    report = recall(model, everything, progress, kv_dtype=kv_dtype)
    cells, begin = [], 0
    for (task, length), group in items.items():
        part = [one for one in report.answers if begin <= one.item < begin + len(group)]
        begin += len(group)
        cells += [Cell(task, length, depth, score) for depth, score in by_depth(part).items()]
    return Grid(tuple(cells), report.answers, report.computed)
