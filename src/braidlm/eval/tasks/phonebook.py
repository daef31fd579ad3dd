"""Phonebook task: a list of names with numbers, some of which are asked for (Jelassi et al. 2024)."""

from collections.abc import Iterator, Sequence
from random import Random

from ..item import Item
from ..item_maker import Asked, ItemMaker
from ..words import FAMILY_NAMES, GIVEN_NAMES

_INITIALS = "ABCDEFGHJKLMNOPRSTVW"
_TITLE = "A phone book.\n\n"


def make(maker: ItemMaker, rng: Random, length: int, depths: Sequence[float]) -> Item:
    """A list as long as fits, and a question about the line at each depth."""
    entries = ((name, f" {rng.randrange(1000, 10000)}") for name in people(rng))
    first = Asked(f"{GIVEN_NAMES[0]} X. {max(FAMILY_NAMES, key=len)}:", " 1000", None)
    room = maker.room(length, [first]) - maker.count(_TITLE)
    lines = maker.fitting((f"{name}:{number}\n" for name, number in entries), room)
    asked = []
    for depth in depths:
        name, _, number = lines[round(depth * (len(lines) - 1))].rstrip("\n").partition(":")
        asked.append(Asked(f"{name}:", number, depth))
    return maker.item([_TITLE, *lines], asked)


def people(rng: Random) -> Iterator[str]:
    """Full names, each once: half of those that there are, then as many with an initial as are needed."""
    seen: set[str] = set()
    plain = len(GIVEN_NAMES) * len(FAMILY_NAMES) // 2
    while len(seen) < plain * len(_INITIALS):
        initial = "" if len(seen) < plain else f"{rng.choice(_INITIALS)}. "
        name = f"{rng.choice(GIVEN_NAMES)} {initial}{rng.choice(FAMILY_NAMES)}"
        if name not in seen:
            seen.add(name)
            yield name
