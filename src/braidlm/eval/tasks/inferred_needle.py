"""Needle without lexical overlap: the question has no word of the fact that answers it (after NoLiMa, Modarressi 2025).

A fact says beside which landmark somebody lives, the question who has been in the city or country of that landmark.
"""

from collections.abc import Sequence
from random import Random

from ..item import Item
from ..item_maker import Asked, ItemMaker, choose
from ..words import GIVEN_NAMES, LANDMARKS

_TITLE = "The text below mentions some people."


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """A haystack with one needle for each depth, and a question for each."""
    names, landmarks = choose(rng, GIVEN_NAMES, len(depths)), choose(rng, LANDMARKS, len(depths))
    facts, asked = [], []
    for name, (landmark, place), depth in zip(names, landmarks, depths):
        facts.append((depth, f" {name} lives next to {landmark}."))
        asked.append(Asked(f"The person who has been in {place} is called", f" {name}", depth))
    room = maker.room(length, asked) - maker.count(_TITLE)
    return maker.item([_TITLE, *maker.among_filler(rng, facts, room)], asked)
