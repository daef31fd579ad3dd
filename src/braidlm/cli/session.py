"""`braid session`: what was saved of conversations."""

import json as json_module
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from ..errors import InputError
from ..system.files import whole_file
from .common import Json, err, out, print_json, size

if TYPE_CHECKING:
    from ..sessions import About, SessionStore

EXAMPLE = "Example: braid session list"

Sessions = Annotated[
    Path | None,
    typer.Option(help="Directory of sessions (else $BRAIDLM_SESSIONS, else in the user's data).", show_default=False),
]
Name = Annotated[str, typer.Argument(help="A session's name.", show_default=False)]

app = typer.Typer(name="session", help="List, show, fork, delete and export saved conversations.", no_args_is_help=True)


def store_at(directory: Path | None) -> "SessionStore":
    """The sessions in a directory, or the user's own."""
    from ..sessions import SessionStore

    return SessionStore.default() if directory is None else SessionStore(directory)


@app.command("list", epilog=EXAMPLE)
def list_sessions(sessions: Sessions = None, json: Json = False) -> None:
    """All sessions, those changed last first."""
    found = store_at(sessions).listing()
    if json:
        print_json([_summary(about) for about in found.sessions])
    else:
        print_sessions(found.sessions, out)
    for _, reason in found.unreadable:
        err.print(f"braid: {reason}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: braid session info holidays")
def info(name: Name, sessions: Sessions = None, json: Json = False) -> None:
    """What a session holds, without loading its model."""
    about = store_at(sessions).about(name)
    if json:
        print_json(_summary(about))
        return
    for key, value in _summary(about).items():
        shown = size(about.bytes) if key == "bytes" else value
        out.print(f"{key:9} {shown}", markup=False, highlight=False)


@app.command(epilog="Example: braid session fork holidays winter")
def fork(name: Name, new: Annotated[str, typer.Argument(help="Name of the copy.")], sessions: Sessions = None) -> None:
    """A copy under another name; it takes no more room until one of them goes on."""
    store_at(sessions).fork(name, new)


@app.command(epilog="Example: braid session delete holidays")
def delete(name: Name, sessions: Sessions = None) -> None:
    """Remove a session for good."""
    store_at(sessions).delete(name)


@app.command(epilog="Example: braid session export holidays --format json --to holidays.json")
def export(
    name: Name,
    format: Annotated[
        Literal["text", "json", "file"], typer.Option(help="file: with states, for a like model.")
    ] = "text",
    to: Annotated[Path | None, typer.Option(help="A file (else standard output).", show_default=False)] = None,
    sessions: Sessions = None,
) -> None:
    """Write what was said, or the whole session for another machine."""
    store = store_at(sessions)
    about = store.about(name)
    if format == "file":
        if to is None:
            raise InputError("--format file needs --to FILE: a session with its states is no text")
        with whole_file(to) as temporary:
            shutil.copyfile(store.path(name), temporary)
        return
    text = json_module.dumps(about.messages, ensure_ascii=False, indent=1) if format == "json" else _transcript(about)
    if to is None:
        typer.echo(text)
        return
    with whole_file(to) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def print_sessions(found: "Sequence[About]", console: Console) -> None:
    """A table of sessions."""
    if not found:
        console.print("there are no sessions")
        return
    table = Table(box=None)
    for heading in ("name", "changed", "messages", "tokens", "size", "model", "begins"):
        table.add_column(heading)
    for about in found:
        table.add_row(
            about.name, _date(about.updated), str(len(about.messages)), str(about.tokens), size(about.bytes),
            about.model, about.title,
        )  # fmt: skip
    console.print(table, markup=False, highlight=False)


def _summary(about: "About") -> dict[str, str | int]:
    return {
        "name": about.name,
        "model": about.model,
        "title": about.title,
        "messages": len(about.messages),
        "tokens": about.tokens,
        "bytes": about.bytes,
        "created": _date(about.created),
        "updated": _date(about.updated),
    }


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _transcript(about: "About") -> str:
    return "\n\n".join(f"{message.get('role')}: {message.get('content')}" for message in about.messages)
