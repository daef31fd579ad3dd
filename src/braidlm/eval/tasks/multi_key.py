"""Multi-key needles: each needle has three others beside it whose keys are like its own (after RULER, Hsieh 2024)."""

from collections.abc import Sequence
from random import Random

from ..item import Item
from ..item_maker import Asked, ItemMaker, choose
from ..words import FAMILY_NAMES, GIVEN_NAMES

_TITLE = "There are secret numbers in the text below."
_ALIKE = 3


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """A haystack with four people of one given name for each depth; the family name of one is asked for."""
    givens = choose(rng, GIVEN_NAMES, len(depths))
    facts, asked = [], []
    for given, depth in zip(givens, depths):
        people = [f"{given} {family}" for family in rng.sample(FAMILY_NAMES, 1 + _ALIKE)]
        one, *alike = [_asked(person, rng.randrange(1000, 10000), depth) for person in people]
        asked.append(one)
        facts.append((depth, f" {one.prompt}{one.answer}."))
        facts += [(rng.random(), f" {other.prompt}{other.answer}.") for other in alike]
    room = maker.room(length, asked) - maker.count(_TITLE)
    return maker.item([_TITLE, *maker.among_filler(rng, facts, room)], asked)


def _asked(person: str, number: int, depth: float) -> Asked:
    return Asked(f"The secret number of {person} is", f" {number}", depth)
