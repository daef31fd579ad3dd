"""Claim: what was published and where, how it is found again, and what the page says of it."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .progress import Progress

Found = dict[str, Any]  # what a claim's command found, as plain data


class Row(NamedTuple):
    """Row of the page: what was published, what was found here, under which conditions, why the two differ."""

    published: str
    ours: str
    conditions: str
    why: str


class Table(NamedTuple):
    """Table of details below a claim's rows."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def no_options(parser: argparse.ArgumentParser) -> None:
    """Adds no option."""


def no_tables(found: Found) -> list[Table]:
    """Gives no details."""
    return []


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Published claim.

    `name` is that of its command and of its result's file; `source` is Markdown: who says it, and where. `find` gives
    what the page's `rows` and `tables` are made of. A claim that is `timed` is measured by its command, and its result
    says where and when. The command of any other gives the same result everywhere: exact arithmetic, or what
    docs/benchmarks.md has of a measurement, with the machine, the date and the conditions that it names.
    """

    name: str
    title: str
    source: str
    find: Callable[[argparse.Namespace, Progress], Found]
    rows: Callable[[Found], Sequence[Row]]
    tables: Callable[[Found], Sequence[Table]] = no_tables
    add_options: Callable[[argparse.ArgumentParser], None] = no_options
    timed: bool = False
