"""Result files of claims: one JSON object each, committed beside this module."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from braidlm.planner import probe
from braidlm.system.files import whole_file

from .claim import Claim, Found

COMMITTED = Path(__file__).parent / "results"


def result_file(directory: Path, claim: Claim) -> Path:
    """File of a claim's result."""
    return directory / f"{claim.name}.json"


def progress_file(directory: Path, claim: Claim) -> Path:
    """File of a claim's measurement that is not at its end."""
    return directory / f"{claim.name}.partial.json"


_PLACES = ("--models", "--results")  # where files lie on one machine, which the page does not show


def shown_arguments(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command without its places of files."""
    shown, skipped = [], False
    for argument in arguments:
        if not skipped and not argument.startswith(_PLACES):
            shown.append(argument)
        skipped = argument in _PLACES
    return shown


def start_of(threads: int, busy: float) -> dict[str, Any]:
    """Where and when a measurement begins.

    `busy` is the share of the cores that other processes take before it.
    """
    return {"date": _today(), "machine": probe.machine() | {"threads": threads, "busy": busy}}


def result_of(
    claim: Claim, arguments: Sequence[str], found: Found, start: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Result as data: the command's arguments, what was found, and for what is timed where and when.

    `start` is what `start_of` gave when the measurement was first begun; it may end later, at another commit.
    """
    result: dict[str, Any] = {"claim": claim.name, "arguments": shown_arguments(arguments), "found": found}
    if start is not None:
        result |= {**start, "ended": {"date": _today(), "commit": probe.machine()["commit"]}}
    return json.loads(json.dumps(result))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def write_result(directory: Path, claim: Claim, result: dict[str, Any]) -> None:
    """Writes a claim's result, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    with whole_file(result_file(directory, claim)) as place:
        place.write_text(json.dumps(result, indent=1) + "\n")


def read_result(directory: Path, claim: Claim) -> dict[str, Any] | None:
    """Reads a claim's result; None if it was not found yet."""
    file = result_file(directory, claim)
    return json.loads(file.read_text()) if file.exists() else None
