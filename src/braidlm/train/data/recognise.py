"""Recognition of a source's kind by the names of its files, the first JSON line or the columns of Parquet."""

import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, named
from . import parquet
from .recipe import Kind

_SUFFIXES = dict.fromkeys((".txt", ".md"), "text") | dict.fromkeys((".jsonl", ".ndjson"), "jsonl")
_SUFFIXES |= {".json": "json", ".parquet": "parquet"}
_CONVERSATIONS = ("messages", "conversations")
# Bytes of a file that are read for its first record, at most.
_MOST_BYTES = 16 << 20


def recognise(sources: Sequence[str | Path], field: str = "") -> Kind:
    """Kind of the sources. `field` is the field that is asked for, if one is.

    `InputError` with what to say instead where the sources leave it open. Files without a known suffix are texts.
    """
    groups: dict[str, Path] = {}
    for file in _files(sources):
        groups.setdefault(_SUFFIXES.get(file.suffix, "text"), file)
    if len(groups) > 1:
        raise InputError(
            f"the sources hold files of several kinds ({named([str(file) for file in groups.values()])}); "
            "name one with --kind text, jsonl, parquet or chat"
        )
    kind, file = next(iter(groups.items()), ("text", Path()))
    if kind == "json":
        raise InputError(f"{file} is one JSON file; give a line to each document (.jsonl), or read it with --kind text")
    if kind == "parquet":
        return _of_fields(file, parquet.columns(file), None, field, "parquet")
    if kind == "jsonl":
        first = _first_record(file)
        return _of_fields(file, list(first), first, field, "jsonl")
    return "text"


def _files(sources: Sequence[str | Path]) -> Iterator[Path]:
    """Files that the sources name, as `sources.find_files` finds them; directories give those with known suffixes."""
    for source in sources:
        path = Path(source)
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if _counts(file.relative_to(path)))
        elif path.is_file():
            yield path
        elif glob.has_magic(str(source)):
            yield from (file for file in sorted(map(Path, glob.glob(str(source), recursive=True))) if file.is_file())


def _counts(file: Path) -> bool:
    """Whether a file below a directory is one of its documents."""
    return file.suffix in _SUFFIXES and file.suffix != ".json" and not any(p.startswith(".") for p in file.parts)


def _first_record(file: Path) -> dict[str, Any]:
    """First record of a file of JSON lines; empty if it is no object (reading the file says what is wrong)."""
    try:
        with file.open("rb") as lines:
            line = next((line for line in iter(lambda: lines.readline(_MOST_BYTES), b"") if line.strip()), b"")
        found = json.loads(line.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_fields(file: Path, fields: list[str], first: dict[str, Any] | None, field: str, plain: Kind) -> Kind:
    """Kind of a file, conversations or texts, by its fields."""
    if field:
        is_chat = field in _CONVERSATIONS or isinstance((first or {}).get(field), list)
        return "chat" if is_chat else plain
    chats = [name for name in _CONVERSATIONS if name in fields]
    if chats and "text" not in fields:
        return "chat"
    if not chats and ("text" in fields or not fields):
        return plain
    has = (
        "has both texts and conversations" if chats else "says neither where its texts nor where its conversations are"
    )
    raise InputError(
        f"{file} {has} (its fields: {named(fields)}); "
        f"say --kind chat, or --kind {plain} with --field and the name of the field"
    )
