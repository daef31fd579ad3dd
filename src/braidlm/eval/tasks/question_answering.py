"""Question answering over distractors: short documents about people, and a question about one of them (after RULER)."""

from collections.abc import Iterator, Sequence
from random import Random

from ..item import Item
from ..item_maker import Asked, ItemMaker
from ..words import ADJECTIVES, CITIES, FAMILY_NAMES, GIVEN_NAMES, PEOPLE, THINGS
from .phonebook import people


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """Documents as many as fit, and a question about the one at each depth."""
    longest = f"{max(GIVEN_NAMES, key=len)} X. {max(FAMILY_NAMES, key=len)}"
    places = {}

    def documents() -> Iterator[str]:
        for number, name in enumerate(people(rng), 1):
            places[name] = rng.choice(CITIES)
            yield (
                f"Document {number}: {name} was born in {places[name]} and works as a {rng.choice(PEOPLE)}. In the "
                f"evening one can see the {rng.choice(ADJECTIVES)} {rng.choice(THINGS)} of {name}.\n"
            )

    room = maker.room(length, [_asked(longest, max(CITIES, key=len), None)])
    lines = maker.fitting(documents(), room)
    names = list(places)
    chosen = [(depth, names[round(depth * (len(lines) - 1))]) for depth in depths]
    return maker.item(lines, [_asked(name, places[name], depth) for depth, name in chosen])


def _asked(name: str, place: str, depth: float | None) -> Asked:
    return Asked(f"Question: Where was {name} born?\nAnswer: {name} was born in", f" {place}", depth)
