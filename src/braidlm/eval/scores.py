"""Scores: shares with confidence intervals, grouped as one likes."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

Key = TypeVar("Key")
Thing = TypeVar("Thing")

# Of the normal distribution, for intervals that hold 95 of 100 times.
_DEVIATIONS = 1.959964


class Interval(NamedTuple):
    """Confidence interval of a share, at 95%."""

    low: float
    high: float


def wilson(successes: int, trials: int) -> Interval:
    """Wilson's score interval of a share (Wilson 1927): right for few trials and for shares next to 0 and 1."""
    if trials == 0:
        return Interval(0.0, 1.0)
    share, square = successes / trials, _DEVIATIONS**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = _DEVIATIONS / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    # At the ends the bounds are 0 and 1 exactly, but for rounding.
    return Interval(middle - half if successes else 0.0, middle + half if successes < trials else 1.0)


class Difference(NamedTuple):
    """Mean difference of paired scores, and its confidence interval at 95%."""

    mean: float
    low: float
    high: float


def paired(first: Sequence[bool], second: Sequence[bool]) -> Difference:
    """Difference of the shares of successes, second less first, in the same trials."""
    differences = [int(b) - int(a) for a, b in zip(first, second, strict=True)]
    mean = sum(differences) / len(differences)
    spread = sum((one - mean) ** 2 for one in differences) / max(1, len(differences) - 1)
    half = _DEVIATIONS * math.sqrt(spread / len(differences))
    return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half))


def grouped(things: Iterable[Thing], key: Callable[[Thing], Key]) -> dict[Key, list[Thing]]:
    """Things by their key, in the order in which keys appear."""
    found: dict[Key, list[Thing]] = {}
    for thing in things:
        found.setdefault(key(thing), []).append(thing)
    return found
