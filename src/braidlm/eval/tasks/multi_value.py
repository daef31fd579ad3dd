"""Multi-value needles: several numbers of a person stand in the text, and all are asked for (after RULER)."""

from collections.abc import Sequence
from random import Random

from ..item import Item
from ..item_maker import Asked, ItemMaker
from ..words import GIVEN_NAMES

_TITLE = "There are secret numbers in the text below."
_PEOPLE, _VALUES = 2, 3


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """A haystack with three numbers of each of two people anywhere; a question asks for all of one, in their order."""
    facts, asked = [], []
    for name in rng.sample(GIVEN_NAMES, _PEOPLE):
        numbers = rng.sample(range(1000, 10000), _VALUES)
        places = sorted(rng.random() for _ in numbers)
        facts += [(place, f" A secret number of {name} is {number}.") for place, number in zip(places, numbers)]
        *some, last = map(str, numbers)
        asked.append(Asked(f"The secret numbers of {name} are", f" {', '.join(some)} and {last}", None))
    room = maker.room(length, asked) - maker.count(_TITLE)
    return maker.item([_TITLE, *maker.among_filler(rng, facts, room)], asked)
