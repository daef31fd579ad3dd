"""Common words: a list of words, of which the one that stands there most often is asked for (after RULER)."""

from collections.abc import Sequence
from random import Random

from ..item import Item
from ..item_maker import Asked, ItemMaker
from ..words import THINGS

_TITLE = "A list of words:"
_OFTEN, _OTHERS = 4, 6


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """A list as long as fits in which one word has four of ten places; depths have no meaning here."""
    common, *others = rng.sample(THINGS, len(THINGS))
    asked = [Asked("The most common word in the list is", f" {common}", None)]

    def block() -> list[str]:
        return [common] * _OFTEN + rng.sample(others, _OTHERS)

    return maker.item(
        [_TITLE, *maker.shuffled_blocks(rng, block, maker.room(length, asked) - maker.count(_TITLE))], asked
    )
