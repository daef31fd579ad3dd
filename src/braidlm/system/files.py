"""Files that appear whole or not at all, and JSON files of others, read within bounds."""

import contextlib
import json
import math
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import BraidError, InputError, quoted

# Far above what any config or index takes (that of a model of 100,000 tensors is 10 MB).
_MOST_JSON = 64 << 20
# A temporary file as old as this belongs to a process that was killed: writing one takes seconds.
_ABANDONED = 3600.0


@contextlib.contextmanager
def whole_file(path: Path, place: Callable[[Path, Path], object] = os.replace) -> Iterator[Path]:
    """A temporary path beside `path` to write to; flushed to disk and renamed to `path` at the end.

    If the block fails (a full disk, say), `path` is as it was and the temporary file is gone. `place(temporary, path)`
    is what gives the file its name: another one than renaming may refuse to.
    """
    if _check(path, Path.is_dir):
        raise InputError(f"cannot write {path}: it is a directory")
    try:
        temporary = _beside(path)
        temporary.touch(exist_ok=False)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}") from None
    try:
        yield temporary
        flush(temporary)
        place(temporary, path)
        flush(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside `path` to fill; flushed and renamed to `path` at the end.

    `path` must not exist or be empty: nothing of the user's is ever overwritten.
    """
    check_free(path)
    temporary = _beside(path)
    try:
        temporary.mkdir(parents=True)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}") from None
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                flush(file)
        if path.exists():
            path.rmdir()
        os.replace(temporary, path)
        flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(directory: Path, suffix: str) -> None:
    """Removes temporary files for names that end with `suffix` which killed processes have left."""
    for path in directory.glob(f".*{suffix}.*"):
        with contextlib.suppress(OSError):  # somebody else was quicker, or it is not ours to remove
            if path.is_file() and time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def check_free(path: Path) -> None:
    """`InputError` unless a directory can appear at `path`: before long work, and before it is written."""
    if _check(path, Path.exists) and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists already and is not empty; choose another place or remove it first")


def check_no_file(path: Path) -> None:
    """`InputError` unless a file can appear at `path` without taking another's place."""
    if _check(path, Path.exists):
        raise InputError(f"{path} exists already; choose another name or remove it first")


def read_object(path: Path, failure: type[BraidError], *, missing: str = "", most: int = _MOST_JSON) -> dict[str, Any]:
    """The JSON object that a file holds, with or without a byte-order mark.

    `failure` with one sentence if there is none: `missing` says what a file that does not exist means. Only regular
    files of at most `most` bytes are read, so that a link to a device or a pipe costs nothing.
    """
    try:
        found = parse_json(_bounded(path, most).decode("utf-8-sig"))
    except FileNotFoundError:
        raise failure(missing or f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise failure(f"{path} is no readable JSON: {reason}") from None
    if not isinstance(found, dict):
        raise failure(f"{path} does not hold a JSON object")
    return found


def parse_json(text: str) -> Any:
    """The value of a JSON text; `ValueError` for everything that is wrong with it, depth too.

    An object says each key once (or says the same again), and numbers are finite. Only where `Infinity` is written out,
    as Python and transformers do (a bound that there is not), it is one.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if repr(value) != repr(found[key]):  # equal values of other types differ too
                raise ValueError(f"it says {quoted(key)} twice, and not the same")
    return found


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {quoted(text)[1:-1]} is beyond all that a computer counts with")
    return value


def _constant(text: str) -> float:
    if text == "NaN":
        raise ValueError("it has NaN for a number")
    return float(text)


def is_there(path: str | Path) -> bool:
    """Whether a directory has an entry of this name, be it a link to nowhere: what reads it then says so."""
    return os.path.lexists(path)


def regular_file(path: str | Path) -> Path:
    """`path` of a regular file, links followed; asked before a file is opened, which would wait for a writer of a pipe.

    `ValueError` for a directory, a pipe, a device or a socket, and for names that no file can have; `OSError` for what
    is not there or cannot be asked for.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a directory")
    if not stat.S_ISREG(mode):
        raise ValueError("it is no regular file")
    return Path(path)


def _bounded(path: Path, most: int) -> bytes:
    """A regular file's bytes; `ValueError` for any other kind, and for one of more than `most` bytes."""
    regular_file(path)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most >> 20} MiB")
    return data


def _check(path: Path, question: Callable[[Path], bool]) -> bool:
    """The answer to a question that some names cannot even be asked: too long, or with a zero byte."""
    try:
        return question(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}") from None


def _beside(path: Path) -> Path:
    """A name that nothing has, in the same directory."""
    return path.absolute().with_name(f".{path.absolute().name}.{secrets.token_hex(6)}")


def flush(path: Path) -> None:
    """Waits until a file, or a directory's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
