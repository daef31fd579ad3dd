"""A bar on standard error for what takes long, where a person watches: on a terminal or in a notebook.

The environment's BRAIDLM_PROGRESS=0 does without it everywhere.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.errors import LiveError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .progress import ProgressFunction

_PATIENCE_S = 1.0


@contextmanager
def progress(what: str) -> Iterator[ProgressFunction]:
    """A function to call with (done, total): shows a bar once a second has passed, if somebody watches."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn(what), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn(),
        console=console, transient=True,
    )  # fmt: skip
    task, watched = bar.add_task(what, total=None), _watched(console)
    begun = time.monotonic()

    def step(done: int, total: int) -> None:
        nonlocal watched
        bar.update(task, completed=done, total=total)
        if watched and done < total and time.monotonic() - begun > _PATIENCE_S and not bar.live.is_started:
            try:
                bar.start()
            except LiveError:  # the caller shows something of rich's already
                watched = False

    try:
        yield step
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def shown(what: str, wanted: ProgressFunction | Literal[False] | None) -> Iterator[ProgressFunction]:
    """Progress function: that of `progress` for None; else the caller's own, or for False one that shows nothing."""
    if wanted is None:
        with progress(what) as step:
            yield step
    else:
        yield wanted or (lambda _done, _total: None)


def _watched(console: Console) -> bool:
    if os.environ.get("BRAIDLM_PROGRESS") == "0":
        return False
    if console.is_jupyter:  # rich draws there by these alone, and warns without
        return importlib.util.find_spec("ipywidgets") is not None
    return sys.stderr.isatty()
