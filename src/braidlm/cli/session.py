"""`braid session`: stored conversations."""

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
from ..system.units import size
from .common import Json, err, out, print_json

if TYPE_CHECKING:
    from ..sessions import SessionStore, SessionSummary

EXAMPLE = "Example: braid session list"

Sessions = Annotated[
    Path | None,
    typer.Option(
        help="Directory of sessions (else $BRAIDLM_SESSIONS, else below the user's data).", show_default=False
    ),
]
Name = Annotated[str, typer.Argument(help="A session's name.", show_default=False)]

app = typer.Typer(name="session", help="List, show, fork, delete and export saved conversations.", no_args_is_help=True)


def store_at(directory: Path | None) -> "SessionStore":
    """The sessions in a directory, or the user's own."""
    from ..sessions import SessionStore

    return SessionStore.default() if directory is None else SessionStore(directory)


@app.command("list", epilog=EXAMPLE)
def list_sessions(sessions: Sessions = None, json: Json = False) -> None:
    """List all sessions, those changed last first."""
    found = store_at(sessions).listing()
    if json:
        print_json([_facts(summary) for summary in found.sessions])
    else:
        print_sessions(found.sessions, out)
    for _, reason in found.unreadable:
        err.print(f"braid: {reason}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: braid session info holidays")
def info(name: Name, sessions: Sessions = None, json: Json = False) -> None:
    """Show what a session holds, without loading its model."""
    summary = store_at(sessions).summary(name)
    if json:
        print_json(_facts(summary))
        return
    for key, value in _facts(summary).items():
        shown = size(summary.bytes) if key == "bytes" else value
        out.print(f"{key:9} {shown}", markup=False, highlight=False)


@app.command(epilog="Example: braid session fork holidays winter")
def fork(name: Name, new: Annotated[str, typer.Argument(help="Name of the copy.")], sessions: Sessions = None) -> None:
    """Copy a session to another name; the copy takes no room until one of them goes on."""
    store_at(sessions).fork(name, new)


@app.command(epilog="Example: braid session delete holidays")
def delete(name: Name, sessions: Sessions = None) -> None:
    """Remove a session for good."""
    store_at(sessions).delete(name)


@app.command(epilog="Example: braid session export holidays --format json --to holidays.json")
def export(
    name: Name,
    format: Annotated[
        Literal["text", "json", "file"],
        typer.Option(help="Format of the output; file: with snapshots, for the same model elsewhere."),
    ] = "text",
    to: Annotated[Path | None, typer.Option(help="File to write (else standard output).", show_default=False)] = None,
    sessions: Sessions = None,
) -> None:
    """Write the messages, or the whole session with its snapshots for another machine."""
    store = store_at(sessions)
    summary = store.summary(name)
    if format == "file":
        if to is None:
            raise InputError("--format file needs --to FILE: a session with its states is no text")
        with whole_file(to) as temporary:
            shutil.copyfile(store.path(name), temporary)
        return
    text = (
        json_module.dumps(summary.messages, ensure_ascii=False, indent=1) if format == "json" else _transcript(summary)
    )
    if to is None:
        typer.echo(text)
        return
    with whole_file(to) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def print_sessions(found: "Sequence[SessionSummary]", console: Console) -> None:
    """A table of sessions."""
    if not found:
        console.print("there are no sessions")
        return
    table = Table(box=None)
    for heading in ("name", "changed", "messages", "tokens", "size", "model", "begins"):
        table.add_column(heading)
    for summary in found:
        table.add_row(
            summary.name, _date(summary.updated), str(len(summary.messages)), str(summary.tokens), size(summary.bytes),
            summary.model, summary.title,
        )  # fmt: skip
    console.print(table, markup=False, highlight=False)


def _facts(summary: "SessionSummary") -> dict[str, str | int]:
    return {
        "name": summary.name,
        "model": summary.model,
        "title": summary.title,
        "messages": len(summary.messages),
        "tokens": summary.tokens,
        "bytes": summary.bytes,
        "created": _date(summary.created),
        "updated": _date(summary.updated),
    }


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _transcript(summary: "SessionSummary") -> str:
    return "\n\n".join(f"{message.get('role')}: {message.get('content')}" for message in summary.messages)
