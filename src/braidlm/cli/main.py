"""The command `braid`: its table of commands, and errors turned into one sentence and exit code 2."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import BraidError, BraidWarning, shortened
from .commands import CommandTable

# The base of all errors about arguments, which typer does not export.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


class _Commands(TyperGroup):
    """Group of the commands in `CommandTable`; what an error about their arguments quotes is cut where it is long."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": CommandTable()})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def make_context(self, *args: Any, **more: Any) -> Any:
        with _short_usage_errors():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        with _short_usage_errors():
            return super().invoke(ctx)


@contextmanager
def _short_usage_errors() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        error.message = shortened(error.message)
        raise


app = typer.Typer(
    name="braid",
    cls=_Commands,
    help="Hybrid language models (state-space layers, gated convolutions, attention) on the computer you have.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"braid {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


_plain_warning = warnings.formatwarning


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Form of a warning: one line for those given on purpose, whose user does not care which line of code says it."""
    if issubclass(category, BraidWarning):
        return f"braid: warning: {message}\n"
    return _plain_warning(message, category, filename, lineno, line)


def main() -> None:
    """Runs the command line; what goes wrong on purpose ends in one sentence on standard error."""
    warnings.formatwarning = _one_line
    try:
        app()
    except BraidError as error:
        typer.echo(f"braid: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, say) has gone; nothing is left to say, not even at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
