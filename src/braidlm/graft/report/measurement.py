"""Measurements that are kept in a file one by one, so that measuring goes on where it was killed."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ... import __version__
from ...errors import CheckpointError, InputError
from ...system.files import read_object, whole_file

Told = Callable[[str], None]


class Measurement(NamedTuple):
    """One measurement.

    part: of the report. subject: the model that is measured; None for all together. case: which of several, as plain
    data, such as a length. inputs: plain data that the result depends on besides: with other inputs, or by another
    version of braidlm, it is measured again. run: makes the result, plain data.
    """

    part: str
    subject: str | None
    case: Mapping[str, Any]
    inputs: Any
    run: Callable[[], dict[str, Any]]

    @property
    def name(self) -> str:
        """Name in the file, such as "recall graft needle 1024"."""
        return " ".join([self.part, *filter(None, [self.subject]), *map(str, self.case.values())])


def carry_out(measurements: Sequence[Measurement], place: Path, told: Told) -> list[dict[str, Any]]:
    """Results, each with its case; those in the file `place` stand, and each new one is there before the next begins.

    `told(sentence)` is called before each that is made. What a model cannot do (a text longer than it declares) has the
    reason under "left_out" for a result.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    known = _read(place)
    for number, one in enumerate(measurements):
        key = _key(one)
        if one.name not in known or known[one.name]["inputs"] != key:
            told(f"measuring {one.name} ({number + 1} of {len(measurements)})")
            known[one.name] = {"inputs": key, "result": _result(one)}
            with whole_file(place) as temporary:
                temporary.write_text(json.dumps(known, indent=1))
    return [known[one.name]["result"] for one in measurements]


def _key(one: Measurement) -> str:
    return hashlib.sha256(json.dumps([__version__, one.inputs], sort_keys=True).encode()).hexdigest()


def _result(one: Measurement) -> dict[str, Any]:
    try:
        found = one.run()
    except InputError as error:
        found = {"left_out": str(error)}
    return {**one.case, **finite(json.loads(json.dumps(found)))}


def finite(value: Any) -> Any:
    """Plain data with null for numbers that are not finite, which a model that has diverged gives."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(place: Path) -> dict[str, dict[str, Any]]:
    if not place.exists():
        return {}
    data = read_object(place, CheckpointError)
    for entry in data.values():
        whole = isinstance(entry, dict) and set(entry) == {"inputs", "result"} and isinstance(entry["result"], dict)
        if not whole:
            raise CheckpointError(f"{place} does not hold the measurements of a report; remove it to measure again")
    return data
