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
    room = length - 2
    require_room(room, 2 * len(depths), "a pair for each depth")
    symbols = maker.symbols(rng, min(maker.alphabet, _ALPHABET + len(depths)))
    special, others = symbols[: len(depths)], symbols[len(depths) :]
    require_room(len(others), 2, "two ordinary tokens beside the special ones")
    haystack = rng.choices(others, k=room)
    questions = []
    for number, (token, depth) in enumerate(zip(special, depths, strict=True)):
        # Special tokens keep a distance of two, so that none stands where another's answer does.
        place = min(max(round(depth * (room - 2)), 2 * number), room - 2 * (len(depths) - number))
        haystack[place] = token
        questions.append(Question((token,), (haystack[place + 1],), depth))
    return Item(tuple(haystack), tuple(questions))
