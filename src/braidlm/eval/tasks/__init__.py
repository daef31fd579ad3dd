"""Recall tasks, one file each: a function makes one item, of facts at given depths, from a random generator."""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from ...errors import InputError
from ...system.suggest import did_you_mean
from ..item import Item
from ..item_maker import ItemMaker
from . import (
    common_words,
    frequent_words,
    induction,
    inferred_needle,
    mqar,
    multi_key,
    multi_value,
    needle,
    phonebook,
    question_answering,
    selective_copying,
    variable_tracking,
)

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Task(NamedTuple):
    """Recall task: what it asks for in a few words, and `make(maker, rng, length, depths)`, which makes an item."""

    summary: str
    make: Callable[[ItemMaker, Random, int, Sequence[float]], Item]


TASKS = {
    "needle": Task("numbers of people among filler", needle.make),
    "inferred_needle": Task("people among filler, asked for in other words", inferred_needle.make),
    "multi_key": Task("numbers of people, some of whom share a name", multi_key.make),
    "multi_value": Task("all numbers of a person among filler", multi_value.make),
    "variable_tracking": Task("a value passed on between variables", variable_tracking.make),
    "phonebook": Task("numbers in a list of names", phonebook.make),
    "question_answering": Task("a fact in one of many documents", question_answering.make),
    "common_words": Task("the most common word of a list", common_words.make),
    "frequent_words": Task("the three most frequent invented words", frequent_words.make),
    "mqar": Task("pairs of random tokens", mqar.make),
    "induction": Task("what followed a token the first time", induction.make),
    "selective_copying": Task("tokens among noise, in their order", selective_copying.make),
}


def task_called(name: str) -> Task:
    """The task of a name; `InputError` lists those that there are."""
    if name not in TASKS:
        raise InputError(f"there is no task {name!r}; there are {', '.join(TASKS)}{did_you_mean(name, TASKS)}")
    return TASKS[name]


def items(
    name: str, maker: ItemMaker, length: int, count: int, *, depths: Sequence[float] = DEPTHS, seed: int = 0
) -> Iterator[Item]:
    """Makes `count` haystacks of a task, each with its questions `length` tokens or a few less; the same for a seed."""
    task = task_called(name)
    if not depths:
        raise InputError("there are no depths; give at least one, such as 0.5")
    for depth in depths:
        if not 0 <= depth <= 1:
            raise InputError(f"a depth is {depth}, but must be from 0 (the beginning) to 1 (the end)")
    for number in range(count):
        try:
            yield task.make(maker, Random(f"{name} {length} {seed} {number}"), length, sorted(depths))
        except InputError as error:
            raise InputError(f"{name} of {length} tokens: {error}") from None
