"""Multi-query associative recall: pairs of random tokens, of which the second is asked for (Arora et al. 2023)."""

from collections.abc import Sequence
from random import Random

from ..item import Item, Question
from ..item_maker import ItemMaker, require_room


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """Pairs as many as fit, and the key of the pair at each depth as a question.

    Half of the vocabulary is keys, each at most once. Where there are fewer keys than pairs fit, single values stand
    between the pairs.
    """
    room = length - 2 - len(maker.start)
    require_room(room, 2 * len(depths), "a pair for each depth")
    symbols = maker.symbols(rng, min(maker.alphabet, room))
    keys, values = symbols[: len(symbols) // 2], symbols[len(symbols) // 2 :]
    pairs = [(key, rng.choice(values)) for key in keys[: room // 2]]
    parts: list[tuple[int, ...]] = [*pairs, *((rng.choice(values),) for _ in range(room - 2 * len(pairs)))]
    rng.shuffle(parts)
    placed = [part for part in parts if len(part) == 2]
    asked = [(depth, placed[round(depth * (len(placed) - 1))]) for depth in depths]
    haystack = (token for part in parts for token in part)
    return Item((*maker.start, *haystack), tuple(Question((key,), (value,), depth) for depth, (key, value) in asked))
