"""Mutators of JSON: values of other types, extreme numbers, depth, keys that are missing, double or misspelt."""

import json
import random
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

# JSON that json.dumps does not write, put in as text.
_RAW = ("NaN", "1e400", "-1e400", "Infinity", "9" * 6000, "[" * 3000 + "]" * 3000, "1.5e-320", "\\", '"\\ud800"')
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, "", "false", "0", "x" * 50_000,
    "\n", "\0", "../../etc/passwd", [], {}, [[]], [None], {"a": 1}, [0] * 2000,
)  # fmt: skip
_HOLE = "\ufdd0hole\ufdd0"


def mutate_json(raw: bytes, rng: random.Random) -> bytes:
    """The same JSON with one thing in it changed."""
    data = json.loads(raw)
    path = rng.choice(list(_paths(data)))
    what = rng.randrange(6)
    if what == 0:
        return _dumps(_with(data, path, _HOLE)).replace(json.dumps(_HOLE), rng.choice(_RAW)).encode()
    if what == 1 and path and isinstance(path[-1], str):
        return _dumps(_renamed(data, path, misspelt(path[-1], rng))).encode()
    if what == 2 and path:
        return _dumps(_without(data, path)).encode()
    if what == 3 and path and isinstance(path[-1], str):
        return _doubled(data, path, rng).encode()
    if what == 4 and path:
        return _dumps(_with(data, path, _at(data, rng.choice(list(_paths(data)))))).encode()
    return _dumps(_with(data, path, rng.choice(_VALUES))).encode()


def _dumps(data: Any) -> str:
    return json.dumps(data)


def _paths(data: Any, path: Path = ()) -> Iterator[Path]:
    """All places in a JSON value, of a long list or table only some."""
    yield path
    items = enumerate(data) if isinstance(data, list) else data.items() if isinstance(data, dict) else ()
    for number, (key, value) in enumerate(items):
        if number < 40 or number % 50 == 0:
            yield from _paths(value, (*path, key))


def _at(data: Any, path: Path) -> Any:
    for key in path:
        data = data[key]
    return data


def _with(data: Any, path: Path, value: Any) -> Any:
    """A copy with another value at a place."""
    if not path:
        return value
    copy: Any = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = _with(data[path[0]], path[1:], value)
    return copy


def _without(data: Any, path: Path) -> Any:
    holder = _at(data, path[:-1])
    if isinstance(holder, dict):
        left: Any = {key: value for key, value in holder.items() if key != path[-1]}
    else:
        left = [value for number, value in enumerate(holder) if number != path[-1]]
    return _with(data, path[:-1], left)


def _renamed(data: Any, path: Path, name: str) -> Any:
    holder = {name if key == path[-1] else key: value for key, value in _at(data, path[:-1]).items()}
    return _with(data, path[:-1], holder)


def misspelt(name: str, rng: random.Random) -> str:
    """A name with a character more or less, in capitals, or with a space."""
    at = rng.randrange(len(name) + 1)
    return rng.choice((name[:at] + name[at + 1 :], name[:at] + "x" + name[at:], name.upper(), name + "_", " " + name))


def _doubled(data: Any, path: Path, rng: random.Random) -> str:
    """A key that is said twice, with two values."""
    marked = _renamed(data, path, _HOLE)
    key, other = json.dumps(path[-1]), json.dumps(rng.choice(_VALUES))
    return _dumps(marked).replace(f"{json.dumps(_HOLE)}:", f"{key}: {other}, {key}:")
