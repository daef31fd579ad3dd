"""lm-eval's own command line with the models of braidlm among its own."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lm_eval.__main__ import cli_evaluate

from ..errors import BraidError, InputError
from ..system.suggest import did_you_mean
from . import lm_eval

# Importing it is what makes lm-eval know `--model braid`.
ADAPTER = lm_eval.BraidLM


def run_lm_eval(arguments: Sequence[str]) -> None:
    """Runs lm-eval with these arguments; `InputError` for a task that does not exist."""
    with _command_line(["lm-eval", *arguments]):
        try:
            cli_evaluate()
        except BraidError:
            raise
        except ValueError:
            _require_tasks(asked_tasks(arguments), _value(arguments, "--include_path"))
            raise


def asked_tasks(arguments: Sequence[str]) -> list[str]:
    """Names of tasks in lm-eval's arguments: after --tasks or -t, separated by spaces or commas; no files."""
    found: list[str] = []
    taking = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("-"):
            taking = option in ("--tasks", "-t")
            found += value.split(",") if taking and equals else []
        elif taking:
            found += argument.split(",")
    return [name for name in found if name and not name.endswith(".yaml") and not Path(name).is_dir()]


def _value(arguments: Sequence[str], option: str) -> str | None:
    for place, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option and place + 1 < len(arguments):
            return arguments[place + 1]
    return None


def _require_tasks(names: Sequence[str], place: str | None) -> None:
    """`InputError` for the first task that lm-eval does not have, with the nearest that it has."""
    from lm_eval.tasks import TaskManager  # noqa: PLC0415  (looked up when it is wanted: it lists all tasks anew)

    manager = TaskManager(include_path=place)
    for name in names:
        if not manager.match_tasks([name]):
            there = did_you_mean(name, manager.all_tasks) or "; braid lm-eval ls tasks lists those that there are"
            raise InputError(f"lm-eval has no task {name!r}{there}") from None


@contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    """A command line in the place of this process's own, which lm-eval reads."""
    before, sys.argv = sys.argv, arguments
    try:
        yield
    finally:
        sys.argv = before
