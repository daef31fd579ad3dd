"""Sources: files that a user names, and their slices, which can be read apart.

Slices depend on the files alone, so that any number of processes makes the same shards.
"""

import glob
import hashlib
import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from . import parquet
from .recipe import Kind, Recipe

_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "text": (".txt", ".md"),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet",),
    "chat": (".jsonl", ".ndjson", ".parquet"),
}
_BOM = b"\xef\xbb\xbf"


class Slice(NamedTuple):
    """Slice of a file: bytes (of a Parquet file: row groups) `begin` to `end`; `line` is the first one's, from 1."""

    source: int
    path: Path
    begin: int
    end: int
    line: int


class SourceFile(NamedTuple):
    """Source file: its hash and its slices, each with its size in bytes, or the problem why it has none."""

    name: str
    unit: str
    size: int
    sha256: str
    slices: tuple[tuple[Slice, int], ...]
    problem: str = ""


def find_files(sources: Sequence[str | Path], kind: Kind) -> list[Path]:
    """Files that sources name: files, directories (searched by suffix), patterns; sorted within each source."""
    files: list[Path] = []
    for source in sources:
        found = list(_find(source, _SUFFIXES[kind]))
        if not found:
            raise InputError(f"{source} holds no file of kind {kind} ({', '.join(_SUFFIXES[kind])})")
        files += found
    for file, times in Counter(files).items():
        if times > 1:
            raise InputError(f"{file} is named twice by the sources; name each file once")
    return files


def _find(source: str | Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    path = Path(source)
    try:
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from sorted(_below(path, suffixes))
        elif glob.has_magic(str(source)):
            yield from sorted(file for file in map(Path, glob.glob(str(source), recursive=True)) if file.is_file())
        else:
            raise InputError(f"{source} is no file, directory or pattern of files here")
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{source} cannot be read: {error}") from None


def _below(directory: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files below a directory with these suffixes, but for hidden ones."""
    for file in directory.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(directory).parts)
        if file.suffix in suffixes and not hidden and file.is_file():
            yield file


def is_parquet(path: Path, kind: Kind) -> bool:
    """Whether a file is read as Parquet."""
    return kind == "parquet" or (kind == "chat" and path.suffix == ".parquet")


def read_file(path: Path, number: int, recipe: Recipe, size: int) -> SourceFile:
    """Source file number `number`: its hash, and slices of about `size` bytes."""
    try:
        if is_parquet(path, recipe.kind):
            return _read_parquet(path, number, recipe, size)
        return _read_text(path, number, recipe, size)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def _read_parquet(path: Path, number: int, recipe: Recipe, size: int) -> SourceFile:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    ranges, problem = parquet.ranges(path, recipe.name_of_field, size)
    slices = tuple((Slice(number, path, *place), weight) for *place, weight in ranges)
    return SourceFile(str(path), "row", path.stat().st_size, sha256, slices, problem)


def _read_text(path: Path, number: int, recipe: Recipe, size: int) -> SourceFile:
    length = path.stat().st_size
    unit = "file" if recipe.kind == "text" and recipe.separator is None else "line"
    if not length:
        return SourceFile(str(path), unit, 0, hashlib.sha256().hexdigest(), (), "is empty")
    found = hashlib.sha256()
    slices = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin, line = len(_BOM) if data[: len(_BOM)] == _BOM else 0, 1
        found.update(data[:begin])
        while begin < length:
            end = length if unit == "file" else _boundary(data, begin + size, separator(recipe))
            text = data[begin:end]
            found.update(text)
            slices.append((Slice(number, path, begin, end, 0 if unit == "file" else line), end - begin))
            begin, line = end, line + text.count(b"\n")
    return SourceFile(str(path), unit, length, found.hexdigest(), tuple(slices))


def separator(recipe: Recipe) -> bytes:
    """Separator between the documents of a file."""
    return b"\n" if recipe.separator is None else recipe.separator.encode()


def _boundary(data: mmap.mmap, begin: int, separator: bytes) -> int:
    """End of the first separator that begins at `begin` or later, or the end of the data."""
    found = data.find(separator, begin) if begin < len(data) else -1
    return len(data) if found < 0 else found + len(separator)
