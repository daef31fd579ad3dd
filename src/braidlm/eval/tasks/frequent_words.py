"""Frequent words: a text of invented words, of which the three most frequent are asked for (after RULER)."""

from collections.abc import Sequence
from random import Random

from ..item import Item
from ..item_maker import Asked, ItemMaker

_TITLE = "A text in an unknown language:"
_TIMES = (7, 4, 2)  # in each block, next to four words that stand there once
_ONCE, _RARE = 4, 20


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """A text as long as fits; the answer has the three words, most frequent first. Depths have no meaning here."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = list(dict.fromkeys("".join(rng.sample(syllables, 2)) for _ in range(2 * _RARE)))
    frequent, rare = words[:3], words[3 : 3 + _RARE]
    asked = [Asked("The three most frequent words are", f" {', '.join(frequent)}", None)]

    def block() -> list[str]:
        return [word for word, times in zip(frequent, _TIMES) for _ in range(times)] + rng.sample(rare, _ONCE)

    return maker.item(
        [_TITLE, *maker.shuffled_blocks(rng, block, maker.room(length, asked) - maker.count(_TITLE))], asked
    )
