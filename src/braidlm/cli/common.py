"""Parts that several commands share: options, loading with a progress bar, JSON output."""

import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

from ..errors import InputError
from .load_options import LoadOptions
from .options import help_of

if TYPE_CHECKING:
    from ..api.language_model import LanguageModel

_WIDE = 10_000


def _console(stream: TextIO, **options: Any) -> Console:
    # Whoever reads from a pipe or a file wants whole names, not what fits on a terminal.
    return Console(width=None if stream.isatty() else _WIDE, **options)


out = _console(sys.stdout)
err = _console(sys.stderr, stderr=True)

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A directory, a GGUF file, a preset's name, or a hub id.", show_default=False),
]
Dtype = Annotated[str, typer.Option(help=help_of(LoadOptions, "dtype"))]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help=help_of(LoadOptions, "allow_pickle"))]
Threads = Annotated[
    int | None, typer.Option(min=1, help=rf"{help_of(LoadOptions, 'threads')} \[default: all]", show_default=False)
]
Adapter = Annotated[
    Path | None, typer.Option(help="Directory of a low-rank adapter in peft's format.", show_default=False)
]
InitialState = Annotated[Path | None, typer.Option(help="File of a learned initial state.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@contextmanager
def telling_warnings() -> Iterator[None]:
    """Warnings of files, each once and in one line on standard error."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        yield
    for note in noted:
        err.print(f"braid: {note.message}", markup=False)


def load_adapters(language: "LanguageModel", adapters: Mapping[str, Path], initials: Mapping[str, Path]) -> None:
    """Loads adapters and learned initial states by name; what their files warn of is told on standard error."""
    with telling_warnings():
        for name, directory in adapters.items():
            language.load_adapter(name, directory)
        for name, file in initials.items():
            language.load_initial_state(name, file)


def with_adapter(language: "LanguageModel", adapter: Path | None, state: Path | None) -> "LanguageModel":
    """The model with an adapter and a learned initial state, if they are given."""
    load_adapters(language, {"it": adapter} if adapter else {}, {"it": state} if state else {})
    return language.using("it" if adapter else None, "it" if state else None) if adapter or state else language


def print_json(data: Any) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(data, ensure_ascii=False))


def read_text(file: Path) -> str:
    """Text of a file in UTF-8; `InputError` if there is none."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no text in UTF-8: {error.reason} at byte {error.start}") from None
