"""Recall tasks, one file each: a function makes one item, of facts at given depths, from a random generator."""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from ...errors import InputError
from ...system.suggest import did_you_mean
from ..item import Item
from ..item_maker import ItemMaker
from . import needle, phonebook

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Task(NamedTuple):
    """Recall task: what it asks for in a few words, and `make(maker, rng, length, depths)`, which makes an item."""

    summary: str
    make: Callable[[ItemMaker, Random, int, Sequence[float]], Item]


TASKS = {
    "needle": Task("numbers of people among filler", needle.make),
    "phonebook": Task("numbers in a list of names", phonebook.make),
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
    wrong = next((depth for depth in depths if not 0 <= depth <= 1), None)
    if wrong is not None or not depths:
        raise InputError(f"depth is {wrong}, but must be from 0 (the beginning) to 1 (the end); give at least one")
    for number in range(count):
        yield task.make(maker, Random(f"{name} {length} {seed} {number}"), length, sorted(depths))
