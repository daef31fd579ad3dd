"""Usable length written into a model's directory: as a number for loading, and in its card with what was measured."""

import json
import re
from pathlib import Path

from ..checkpoints.published import CONFIG_FILE
from ..checkpoints.saving import OWN_FILE
from ..checkpoints.usable_length import KEY
from ..errors import CheckpointError, InputError
from ..system.files import is_there, read_object, whole_file
from .usable_length import LengthReport

CARD = "README.md"
_HEADING = "## Usable length"
_END = "<!-- end of usable length -->"
# A section of ours, up to its end mark and without other headings; or the heading with nothing below it.
_SECTION = re.compile(rf"^{_HEADING}[ \t\r]*(?:\n(?:(?!#).*\n)*?{_END}[ \t\r]*(?:\n|\Z)|\s*(?=^#|\Z))", re.MULTILINE)
_INDENT = {OWN_FILE: 1, CONFIG_FILE: 2}


def require_directory(model: str | Path) -> Path:
    """The file of a model's directory that says what it is; `InputError` for a model that is no directory here."""
    directory = Path(model)
    for name in _INDENT:
        if is_there(directory / name):
            return directory / name
    raise InputError(
        f"{model} is no directory of a model, and a usable length can be written to one alone; braid convert makes one"
    )


def require_writable(directory: Path) -> None:
    """`InputError` if `write_usable_length` would fail on a directory: what is found before a long measurement."""
    read_object(require_directory(directory), CheckpointError)
    _card_of(directory)
    with whole_file(directory / CARD, lambda temporary, _: temporary.unlink()):
        pass


def write_usable_length(report: LengthReport, directory: Path) -> None:
    """Writes the usable length into a directory's config.json or braidlm.json, and a section into its README.md.

    What else is in README.md stays as it is, byte by byte but for blank lines around the section.
    """
    file = require_directory(directory)
    metadata = read_object(file, CheckpointError) | {KEY: report.usable_length}
    card, text = directory / CARD, _card_of(directory)
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(metadata, indent=_INDENT[file.name]))
    with whole_file(card) as temporary:
        temporary.write_bytes(_with_section(text, _section(report)).encode())


def _card_of(directory: Path) -> str:
    """Text of a directory's card, its line ends as they are; of a new one if there is none."""
    card = directory / CARD
    try:
        return card.read_bytes().decode() if is_there(card) else f"# {directory.resolve().name}\n"
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{card} is no text in UTF-8, so that no section can be added to it: {error}") from None


def _with_section(card: str, section: str) -> str:
    """The card with the section in the place of an earlier one, or at its end."""
    found = _SECTION.search(card)
    before, after = (card, "") if found is None else (card[: found.start()], card[found.end() :])
    before = f"{before.rstrip()}\n\n" if before.strip() else ""
    apart = "\n" if after and not after.startswith(("\n", "\r")) else ""
    return f"{before}{section}{apart}{after}"


def _section(report: LengthReport) -> str:
    tasks = list(report.scores[0].recall)
    heads = ["tokens", "perplexity of the positions before", *(f"exact answers of {task}" for task in tasks)]
    rows = [heads, ["---"] * len(heads)]
    for one in report.scores:
        shares = [f"{one.recall[task].exact:.0%} of {one.recall[task].questions}" for task in tasks]
        rows.append([f"{one.length:,}", f"{one.likelihood.perplexity:.4g}", *shares])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{_HEADING}\n\n{verdict(report)}\n\n{table}\n\n{_END}\n"


def verdict(report: LengthReport) -> str:
    """Sentences: the usable length, what breaks first and where, and which tasks say nothing."""
    length, criteria = report.usable_length, report.criteria
    if report.breaks:
        first = min(report.breaks, key=lambda one: one.length)
        many = report.scores[0].recall
        told = "{:.0%} of exact answers" if first.measure in many else "perplexity {:.4g}"
        what = first.measure if first.measure in many else "text"
        reason = f"At {first.length:,}, {what} has {told.format(first.value)} after {told.format(first.best)} before."
    else:
        reason = "Nothing breaks up to there, the greatest length that was measured."
    unanswered = ", ".join(report.unanswered)
    silent = f" No question of {unanswered} was answered at any length." if unanswered else ""
    counts = len(report.unanswered) < len(report.scores[0].recall)
    recall = f", and recall keeps {criteria.recall_share:.0%} of its best before" if counts else ""
    return (
        f"Usable up to {length:,} tokens: perplexity by position rises by at most {criteria.tolerance:.0%} over its "
        f"best before{recall}. {reason}{silent}"
    )
