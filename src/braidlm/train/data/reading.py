"""Reader of the documents in a slice of a file, each with its line."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from ...errors import InputError
from . import parquet
from .recipe import Recipe, Record, record_of
from .sources import Slice, is_parquet, separator


def read_documents(place: Slice, recipe: Recipe) -> Iterator[Record]:
    """Documents of a slice, bad ones with their problem."""
    if is_parquet(place.path, recipe.kind):
        yield from parquet.read_rows(place.path, place.begin, place.end, place.line, recipe.name_of_field)
        return
    try:
        with place.path.open("rb") as file:
            file.seek(place.begin)
            data = file.read(place.end - place.begin)
    except OSError as error:
        raise InputError(f"{place.path} cannot be read: {error.strerror or error}") from None
    if len(data) < place.end - place.begin:
        raise InputError(f"{place.path} became shorter while it was read; start again when it is complete")
    for part in _parts(data, place, recipe):
        yield _record(part, recipe)


class _Part(NamedTuple):
    """Bytes between two separators, with their offset in the file and their line."""

    data: bytes
    offset: int
    line: int


def _parts(data: bytes, place: Slice, recipe: Recipe) -> Iterator[_Part]:
    if not place.line:
        yield _Part(data, place.begin, 0)
        return
    mark = separator(recipe)
    offset, line = place.begin, place.line
    for part in data.split(mark):
        if part.strip():  # nothing stands between two separators, or after the last one
            yield _Part(part, offset, line)
        offset, line = offset + len(part) + len(mark), line + part.count(b"\n") + mark.count(b"\n")


def _record(part: _Part, recipe: Recipe) -> Record:
    try:
        text = part.data.decode("utf-8")
    except UnicodeDecodeError as error:
        return Record(part.line, problem=f"is no text in UTF-8: {error.reason} at byte {part.offset + error.start}")
    if recipe.kind == "text":
        return Record(part.line, text)
    try:
        fields = json.loads(text)
    except ValueError as error:
        return Record(part.line, problem=f"is no valid JSON: {error}")
    except RecursionError:
        return Record(part.line, problem="is no JSON that can be read: it is nested too deeply")
    return record_of(part.line, fields, recipe.name_of_field)
