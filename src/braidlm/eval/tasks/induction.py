"""Induction heads task: a token that stands once among random ones comes again; what followed it is the answer.

After Gu and Dao 2023 and Olsson et al. 2022.
"""

from collections.abc import Sequence
from random import Random

from ..item import Item, Question
from ..item_maker import ItemMaker, require_room

# Different tokens that the haystack is drawn from.
_ALPHABET = 256


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """Random tokens with one special token at each depth, each of which is a question."""
    room = length - 2 - len(maker.start)
    require_room(room, 2 * len(depths), "a pair for each depth")
    symbols = maker.symbols(rng, min(maker.alphabet, _ALPHABET + len(depths)))
    special, others = symbols[: len(depths)], symbols[len(depths) :]
    require_room(len(others), 2, "two ordinary tokens beside the special ones")
    haystack = rng.choices(others, k=room)
    places = _places(room, depths)
    for token, place in zip(special, places, strict=True):
        haystack[place] = token
    questions = tuple(
        Question((token,), (haystack[place + 1],), depth)
        for token, place, depth in zip(special, places, depths, strict=True)
    )
    return Item((*maker.start, *haystack), questions)


def _places(room: int, depths: Sequence[float]) -> list[int]:
    """Places of the special tokens, at least two apart, so that none stands where another or its answer does."""
    places: list[int] = []
    for number, depth in enumerate(depths):
        first, last = places[-1] + 2 if places else 0, room - 2 * (len(depths) - number)
        places.append(min(max(round(depth * (room - 2)), first), last))
    return places
