"""Variable tracking: a number is passed on from variable to variable, and asked for as the last one's (after RULER)."""

from collections.abc import Sequence
from random import Random

from ..item import Item
from ..item_maker import Asked, ItemMaker

_CHAIN = 3


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """A haystack with a chain of assignments for each depth, at which it begins; the rest of it follows anywhere."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    names = rng.sample([f"{first}{second}" for first in letters for second in letters], _CHAIN * len(depths))
    facts, asked = [], []
    for depth, number in zip(depths, rng.sample(range(1000, 10000), len(depths))):
        chain = [names.pop() for _ in range(_CHAIN)]
        places = sorted([depth, *(rng.uniform(depth, 1) for _ in chain[1:])])
        sources = [str(number), *(f"VAR {name}" for name in chain)]
        facts += [
            (place, f" VAR {name} = {source}.") for place, name, source in zip(places, chain, sources, strict=False)
        ]
        asked.append(Asked(f"In numbers, VAR {chain[-1]} =", f" {number}", depth))
    return maker.item(maker.among_filler(rng, facts, maker.room(length, asked)), asked)
