"""Filler: sentences without names, numbers or sense, from templates and word lists."""

from random import Random

from .words import ACTIONS, ADJECTIVES, PEOPLE, PLACES, THINGS

_TEMPLATES = (
    "The {adjective} {person} {action} the {thing} near the {place}.",
    "In the {place}, a {person} {action} the {adjective} {thing}.",
    "Nobody in the {place} {action} the {thing} of the {adjective} {person}.",
    "The {person} {action} a {thing}, and the {adjective} {thing2} stayed in the {place}.",
    "Behind the {place} there was a {adjective} {thing} that the {person} {action}.",
    "It was the {adjective} {person} who {action} every {thing} in the {place}.",
)


def sentence(rng: Random) -> str:
    """A sentence of filler, with the space before it."""
    return " " + rng.choice(_TEMPLATES).format(
        adjective=rng.choice(ADJECTIVES),
        person=rng.choice(PEOPLE),
        action=rng.choice(ACTIONS),
        thing=rng.choice(THINGS),
        thing2=rng.choice(THINGS),
        place=rng.choice(PLACES),
    )
