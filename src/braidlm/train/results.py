"""Results of a run: files that it leaves in its directory at the end, listed there so that nothing else is replaced.

`results.json` names each file that a run has written, with its digest. A result takes another's place only if
every file of that one is listed, unchanged; the new one is written beside it and then gets its name.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..system.files import flush, read_object, whole_file

ADAPTER, INITIAL, MODEL = "adapter", "initial.safetensors", "model"
LIST, _LOCK = "results.json", ".lock"


def recover(out: Path, names: Sequence[str]) -> None:
    """Restores old results where a process was ended between moving them away and naming the new ones."""
    for name in names:
        old, place = _old(out, name), out / name
        if old.exists() and not place.exists():
            old.rename(place)


def check(out: Path, names: Sequence[str]) -> None:
    """`InputError` unless every result of these names may be written: it is not there, or a run wrote all of it."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, but a run needs a directory; choose another run.out")
    listed = _listed(out)
    for name in names:
        for file in _files(out / name):
            known = listed.get(str(file.relative_to(out)), [])
            if file.is_symlink() or not file.is_file() or _digest(file) not in known:
                raise InputError(
                    f"{file} was not written by a run, or was changed since, and would be lost when the run in {out} "
                    "writes its results; move it away, or choose another run.out"
                )


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Locks a run's directory for this process; `InputError` while another one trains in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / _LOCK).open("a")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another process is training in {out}; wait until it has ended, or choose another run.out"
            ) from None
        yield


@contextlib.contextmanager
def replaced(out: Path, names: Sequence[str], step: int) -> Iterator[Path]:
    """A directory to write results of these names into; they take their places together at the end of the block."""
    check(out, names)
    part = out / ".results.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        new = {str(file.relative_to(part)): [_digest(file)] for name in names for file in _files(part / name)}
        for file in new:
            flush(part / file)
        before = _listed(out)
        # Between the two lists, files of both kinds may lie there.
        both = {name: [*before.get(name, []), *new.get(name, [])] for name in {**before, **new}}
        _write_list(out, both, step)
        for name in names:
            _swap(part / name, out / name, _old(out, name))
        _write_list(out, new, step)
    except OSError as error:
        raise InputError(f"cannot write the results to {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def written_at(out: Path) -> int | None:
    """Step whose results lie in `out`; None if there are none."""
    step = _content(out).get("step")
    return step if type(step) is int else None


def _swap(new: Path, place: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    if place.is_dir():
        place.rename(old)
    new.replace(place)
    flush(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old(out: Path, name: str) -> Path:
    return out / f".{name}.old"


def _files(place: Path) -> list[Path]:
    """A result's files: itself, or all that is in its directory."""
    if place.is_dir() and not place.is_symlink():
        return sorted(file for file in place.rglob("*") if file.is_symlink() or not file.is_dir())
    return [place] if place.exists() or place.is_symlink() else []


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _content(out: Path) -> dict[str, Any]:
    return read_object(out / LIST, InputError) if (out / LIST).exists() else {}


def _listed(out: Path) -> dict[str, list[str]]:
    files = _content(out).get("files", {})
    if not (isinstance(files, dict) and all(isinstance(marks, list) for marks in files.values())):
        raise InputError(f"{out / LIST} is damaged; move the results of {out} away, or choose another run.out")
    return files


def _write_list(out: Path, files: dict[str, list[str]], step: int) -> None:
    with whole_file(out / LIST) as file:
        file.write_text(json.dumps({"step": step, "files": files}, indent=1) + "\n", encoding="utf-8")
