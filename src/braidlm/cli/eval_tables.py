"""Tables and rows of `braid eval`: what is printed for people, as CSV and as JSON."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..eval.generation import GenerationReport, GenerationScore
    from ..eval.grid import Cell, Grid
    from ..eval.recall import RecallScore
    from ..eval.scores import Difference

# Backgrounds of shares below 20%, 40% ... of exact answers: from dark to light, with a foreground that can be read.
_SHADES = ("white on #00224e", "white on #35456c", "white on #666970", "black on #948e77", "black on #c8b866",
           "black on #fee838")  # fmt: skip


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without lines."""
    return Table(*columns, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))


def print_csv(rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as CSV on standard output, their names first."""
    text, writer = io.StringIO(), None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    typer.echo(text.getvalue(), nl=False)


def recall_rows(name: str, grid: "Grid") -> list[dict[str, Any]]:
    """Cells of a grid as flat rows."""
    return [
        {"model": name, "task": cell.task, "length": cell.length, "depth": cell.depth} | _facts(cell.score)
        for cell in grid.cells
    ]


def _facts(score: "RecallScore") -> dict[str, Any]:
    return {
        "questions": score.questions,
        "exact": score.exact,
        "low": score.interval.low,
        "high": score.interval.high,
        "accuracy": score.accuracy,
        "nats": score.nats,
    }


def heat_map(task: str, summary: str, grids: Mapping[str, Sequence["Cell"]]) -> Table:
    """Depth by length: the share of exact answers with its interval, of each model beside the others."""
    lengths = list(dict.fromkeys(cell.length for cells in grids.values() for cell in cells))
    depths = list(dict.fromkeys(cell.depth for cells in grids.values() for cell in cells))
    several = len(grids) > 1
    table = plain_table("depth", title=f"{task}: {summary}; exact answers (95% interval)")
    for length in lengths:
        for name in grids:
            table.add_column(f"{length} {name}" if several else f"{length} tokens", justify="right")
    scores = {(name, cell.depth, cell.length): cell.score for name, cells in grids.items() for cell in cells}
    for depth in depths:
        shown = [_shaded(scores[name, depth, length]) for length in lengths for name in grids]
        table.add_row("whole" if depth is None else f"{depth:.0%}", *shown)
    return table


def _shaded(score: "RecallScore") -> Text:
    low, high = score.interval
    return Text(f" {score.exact:4.0%} ({low:.0%}-{high:.0%}) ", style=_SHADES[int(score.exact * 5)])


def generation_rows(name: str, report: "GenerationReport") -> list[dict[str, Any]]:
    """Scores of each kind of rule, and of all, as flat rows."""
    found = {**report.by_kind, "all": report.whole}
    return [
        {"model": name, "rule": kind, "answers": one.answers, "passed": one.passed}
        | {"low": one.interval.low, "high": one.interval.high}
        for kind, one in found.items()
    ]


def generation_table(reports: Mapping[str, "GenerationReport"]) -> Table:
    """Each kind of rule by model: the share of answers that keep it, with its interval."""
    table = plain_table("rule", "answers", *reports)
    scores = {name: {**report.by_kind, "all": report.whole} for name, report in reports.items()}
    for kind, first in next(iter(scores.values())).items():
        table.add_row(kind, str(first.answers), *(_share(of_model[kind]) for of_model in scores.values()))
    return table


def _share(score: "GenerationScore") -> str:
    low, high = score.interval
    return f"{score.passed:.0%} ({low:.0%}-{high:.0%})"


def difference_line(first: str, second: str, found: "Difference", what: str) -> str:
    """Sentence about a paired difference, in points of a hundred."""
    return (
        f"{second} less {first}: {100 * found.mean:+.1f} points of {what} "
        f"(95%: {100 * found.low:+.1f} to {100 * found.high:+.1f})"
    )
