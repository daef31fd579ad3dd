"""Result files of claims: one JSON object each, committed beside this module."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

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


def result_of(claim: Claim, arguments: Sequence[str], found: Found, busy: float = 0.0) -> dict[str, Any]:
    """Result as data: the command's arguments, what was found, and for what is timed where and when.

    `busy` is the share of the cores that other processes took before the measurement.
    """
    result: dict[str, Any] = {"claim": claim.name, "arguments": shown_arguments(arguments), "found": found}
    if claim.timed:
        machine = probe.machine() | {"threads": torch.get_num_threads(), "busy": busy}
        result |= {"date": datetime.now(UTC).date().isoformat(), "machine": machine}
    return json.loads(json.dumps(result))


def write_result(directory: Path, claim: Claim, result: dict[str, Any]) -> None:
    """Writes a claim's result, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    with whole_file(result_file(directory, claim)) as place:
        place.write_text(json.dumps(result, indent=1) + "\n")


def read_result(directory: Path, claim: Claim) -> dict[str, Any] | None:
    """Reads a claim's result; None if it was not found yet."""
    file = result_file(directory, claim)
    return json.loads(file.read_text()) if file.exists() else None
