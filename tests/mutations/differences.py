"""Differences of two JSON texts, for rules on which of them a user could have meant."""

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from .json_mutators import Path


class Difference(NamedTuple):
    """Where, and what: "value" (another of the same type), "type", "missing", "extra" (a key), "length" (of a list)."""

    path: Path
    what: str


def differences(intact: bytes, changed: bytes) -> list[Difference] | None:
    """All differences; None if `changed` is no JSON, or not such that each key counts once."""
    try:
        return list(_differences(json.loads(intact), json.loads(changed, object_pairs_hook=_once), ()))
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _differences(one: Any, two: Any, path: Path) -> Iterator[Difference]:
    if _kind(one) != _kind(two):
        yield Difference(path, "type")
    elif isinstance(one, dict):
        for key in one.keys() | two.keys():
            if key not in two or key not in one:
                yield Difference((*path, key), "missing" if key in one else "extra")
            else:
                yield from _differences(one[key], two[key], (*path, key))
    elif isinstance(one, list):
        if len(one) != len(two):
            yield Difference(path, "length")
        for number, (a, b) in enumerate(zip(one, two, strict=False)):
            yield from _differences(a, b, (*path, number))
    elif one != two:
        yield Difference(path, "value")


def _kind(value: Any) -> str:
    """The type, numbers of both types being one; a number that is none is of a type of its own."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return type(value).__name__
    return "number" if math.isfinite(value) else "no number"
