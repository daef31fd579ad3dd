"""What a benchmark found: lines and tables for people, one JSON object for programs, an exit code for both."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from braidlm.bench.table import grid
from braidlm.errors import BraidError


class Report:
    """Collects what was found and whether what was to be shown holds."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.found: dict[str, Any] = {}
        self.failed: list[str] = []

    def say(self, text: str) -> None:
        """A line or a table, as soon as it is known; with JSON, beside it."""
        print(text, file=sys.stderr if self._as_json else sys.stdout, flush=True)

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A Markdown table."""
        self.say("\n" + grid(heads, [[str(cell) for cell in row] for row in rows]) + "\n")

    def check(self, what: str, holds: bool) -> None:
        """A thing that must hold; what does not is told at the end again, by the exit code."""
        self.say(f"- {'holds' if holds else 'DOES NOT HOLD'}: {what}")
        if not holds:
            self.failed.append(what)


def parser(about: str | None) -> argparse.ArgumentParser:
    """A command line whose help is the module's description."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="one JSON object on standard output, all else beside it")
    return made


def run(measure: Callable[[argparse.Namespace, Report], None], arguments: argparse.ArgumentParser) -> None:
    """Measures, reports, and exits: 0 if everything holds, 1 if not, 2 if it was asked in vain."""
    given = arguments.parse_args()
    report = Report(given.json)
    try:
        measure(given, report)
    except BraidError as error:
        sys.exit(_refused(str(error)))
    if given.json:
        print(json.dumps({**report.found, "does_not_hold": report.failed}))
    sys.exit(1 if report.failed else 0)


def _refused(why: str) -> int:
    print(why, file=sys.stderr)
    return 2


def milliseconds(seconds: float) -> str:
    """For a table."""
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
