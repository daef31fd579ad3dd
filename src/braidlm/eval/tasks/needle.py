"""Needle task: a number of a person stands at each depth among filler, and each is asked for (Kamradt 2023)."""

from collections.abc import Sequence
from random import Random

from ..item import Item
from ..item_maker import Asked, ItemMaker, choose
from ..words import GIVEN_NAMES

# Told first, so that a model without instructions knows what matters, and the first needle is not the first token.
_TITLE = "There are secret numbers in the text below."


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """A haystack with one needle for each depth, and a question for each."""
    names, numbers = choose(rng, GIVEN_NAMES, len(depths)), rng.sample(range(1000, 10000), len(depths))
    asked = [
        Asked(f"The secret number of {name} is", f" {number}", depth)
        for name, number, depth in zip(names, numbers, depths)
    ]
    facts = [(depth, f" {one.prompt}{one.answer}.") for depth, one in zip(depths, asked)]
    room = maker.room(length, asked) - maker.count(_TITLE)
    return maker.item([_TITLE, *maker.among_filler(rng, facts, room)], asked)
