"""Files of a report: report.json with every fact, report.html for people, and the card of the model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ...system.files import read_object, whole_file
from .card import card
from .measurement import finite
from .page import page
from .summary import Figure, summary

FACTS, PAGE, CARD = "report.json", "report.html", "README.md"


def write(facts: Mapping[str, Any], directory: Path) -> list[Figure]:
    """Writes report.json, with the summary, and report.html into a directory; returns the summary."""
    directory.mkdir(parents=True, exist_ok=True)
    data = finite(json.loads(json.dumps(facts)))
    found = summary(data["measured"])
    data["summary"] = [one._asdict() for one in found]
    shown = page(data)
    with whole_file(directory / FACTS) as temporary:
        temporary.write_text(json.dumps(data, indent=1))
    with whole_file(directory / PAGE) as temporary:
        temporary.write_text(shown)
    return found


def write_card(facts: Mapping[str, Any], model: Path) -> None:
    """Writes the card of the graft into the directory of its model."""
    with whole_file(model / CARD) as temporary:
        temporary.write_text(card(finite(json.loads(json.dumps(facts)))))


def rewrite(directory: Path) -> tuple[Path, list[Figure]]:
    """Writes report.html and the summary again from what report.json holds; returns the page and the summary."""
    missing = f"{directory} has no {FACTS}, which a graft writes at its end; run braid graft with its recipe first"
    facts = read_object(directory / FACTS, CheckpointError, missing=missing)
    try:
        return directory / PAGE, write(facts, directory)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise CheckpointError(
            f"{directory / FACTS} is not a report of this version of braidlm; run braid graft with its recipe again"
        ) from None
