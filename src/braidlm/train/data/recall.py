"""Documents of a recall task, made as they are needed: a long text of random tokens, then questions about it.

Only the answers are trained on. A document follows from the seed and its number; the seeds are others than those of
`braid eval recall`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal

import torch

from ...errors import InputError
from ...eval.item import Item
from ...eval.item_maker import ItemMaker
from ...eval.tasks import TASKS
from ...system.settings import Setting, check_settings
from .pack import IGNORED, Pack
from .stream import check_place, check_stage


@dataclass(frozen=True, kw_only=True)
class RecallTask:
    """Settings of a recall task as training data."""

    name: Annotated[Literal["mqar", "induction", "selective_copying"], Setting("Recall task of random tokens.")]
    length: Annotated[int, Setting("Length of a document's text with one question and its answer in tokens.", least=8)]
    questions: Annotated[int, Setting("Number of questions in a document, at random depths.", least=1)] = 1
    seed: Annotated[int, Setting("Seed of the documents.")] = 0
    held_out: Annotated[int, Setting("Number of documents that an evaluation reads.", least=0)] = 64

    def __post_init__(self) -> None:
        check_settings(self, "task")

    def __str__(self) -> str:
        return f"recall task {self.name} of {self.length} tokens"


class Recall:
    """Packing of the documents of a recall task: as many whole ones in a sequence as fit. A position counts them."""

    def __init__(self, maker: ItemMaker, task: RecallTask) -> None:
        self._maker, self._task = maker, task
        self.length = len(self._document("training", 0)[0])  # that of every document

    def stage(self, begin: int, batch_size: int, seq_len: int, steps: int) -> "RecallStage":
        """The `steps` * `batch_size` packed sequences of up to `seq_len` tokens from a position on."""
        check_stage(begin, batch_size, seq_len, steps)
        if self.length > seq_len:
            raise InputError(
                f"a document of the {self._task} has {self.length} tokens with all of its questions, but seq_len is "
                f"{seq_len}; make it larger, or the task's length smaller"
            )
        return RecallStage(self, begin, batch_size, seq_len // self.length, steps)

    def held_out(self, tokens: int) -> Iterator[Pack]:
        """Documents that are not trained on, in packed sequences of about so many tokens."""
        rows = max(1, tokens // self.length)
        for begin in range(0, self._task.held_out, rows):
            yield self.pack(range(begin, min(begin + rows, self._task.held_out)), "held out")

    def pack(self, numbers: range, purpose: str = "training") -> Pack:
        """Packed sequence of some documents; those of another purpose are others."""
        ids, targets = zip(*(self._document(purpose, number) for number in numbers), strict=True)
        flat = [torch.tensor([token for row in rows for token in row]) for rows in (ids, targets)]
        return Pack(flat[0], flat[1], tuple(map(len, ids)), False, tuple(numbers))

    def _document(self, purpose: str, number: int) -> tuple[list[int], list[int]]:
        """Ids and targets of a document."""
        task = self._task
        rng = Random(f"{purpose} {task.name} {task.length} {task.seed} {number}")
        depths = sorted(rng.random() for _ in range(task.questions))
        try:
            return _with_targets(TASKS[task.name].make(self._maker, rng, task.length, depths), rng)
        except InputError as error:
            raise InputError(f"the {task} cannot be made: {error}") from None


def _with_targets(item: Item, rng: Random) -> tuple[list[int], list[int]]:
    """Text and questions of an item one after the other in random order, and the next token where it is an answer's."""
    ids, targets = list(item.haystack), [IGNORED] * len(item.haystack)
    for question in rng.sample(item.questions, len(item.questions)):
        ids += question.prompt + question.answer
        targets += [IGNORED] * (len(question.prompt) - 1) + [*question.answer, IGNORED]
    return ids, targets


class RecallStage:
    """Section of the packing, of sequences with `rows` documents each."""

    def __init__(self, recall: Recall, begin: int, batch_size: int, rows: int, steps: int) -> None:
        self._recall, self._begin, self._batch_size, self._rows, self._steps = recall, begin, batch_size, rows, steps

    @property
    def end(self) -> int:
        """The position at which the next stage begins."""
        return self._begin + self._steps * self._batch_size * self._rows

    def pack(self, step: int, index: int) -> Pack:
        """Packed sequence `index` of the batch of a step."""
        check_place(step, index, self._steps, self._batch_size)
        first = self._begin + (step * self._batch_size + index) * self._rows
        return self._recall.pack(range(first, first + self._rows))
