"""Selective copying: tokens among noise, all of which are to be written again in their order (Gu and Dao 2023)."""

from collections.abc import Sequence
from random import Random

from ..item import Item, Question
from ..item_maker import ItemMaker, require_room

_COPIED = 16


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """Sixteen tokens at random places among one token of noise; depths have no meaning here."""
    count = min(_COPIED, maker.alphabet - 2)
    room = length - count - 1 - len(maker.start)
    require_room(room, count, f"{count} tokens that are copied")
    noise, end, *symbols = maker.symbols(rng, count + 2)
    haystack = [noise] * room
    for place, token in zip(sorted(rng.sample(range(room), count)), symbols, strict=True):
        haystack[place] = token
    return Item((*maker.start, *haystack), (Question((end,), tuple(symbols), None),))
