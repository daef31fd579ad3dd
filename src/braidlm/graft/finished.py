"""Records of stages that were finished: with what settings, and what came out, so that nothing is done twice."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, InputError, quoted
from ..system.files import read_object, whole_file
from ..train.checkpoints import DIRECTORY as CHECKPOINTS

FILE, BEGUN = "finished.json", "begun.json"


def begin(directory: Path, settings: Mapping[str, Any]) -> None:
    """Writes with what settings a stage begins; `InputError` if it was begun with other ones."""
    if (directory / BEGUN).exists():
        _require_same(directory, read_object(directory / BEGUN, CheckpointError).get("settings"), settings, "begun")
        return
    directory.mkdir(parents=True, exist_ok=True)
    with whole_file(directory / BEGUN) as temporary:
        temporary.write_text(json.dumps({"settings": settings}, indent=1))


def finish(directory: Path, settings: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Writes that a stage has ended, with the settings that it ran with and what came out, both plain data.

    It goes on no more, so that its checkpoints go: weights and the moments of their gradients, twice.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with whole_file(directory / FILE) as temporary:
        temporary.write_text(json.dumps({"settings": settings, "result": result}, indent=1))
    shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)


def finished(directory: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What came out of a stage that has ended, or None; `InputError` if it ran with other settings."""
    if not (directory / FILE).exists():
        return None
    data = read_object(directory / FILE, CheckpointError)
    result = data.get("result")
    _require_same(directory, data.get("settings"), settings, "finished")
    if not isinstance(result, dict):
        raise CheckpointError(f"{directory / FILE} is damaged; remove {directory} to run the stage again")
    return result


def _require_same(directory: Path, before: Any, settings: Mapping[str, Any], what: str) -> None:
    if not isinstance(before, dict):
        raise CheckpointError(f"the records in {directory} are damaged; remove it to run the stage again")
    found = _difference(before, json.loads(json.dumps(settings)), directory.name)
    if found is not None:
        name, was, now = found
        raise InputError(
            f"{name} is {quoted(now)}, but the stage in {directory} was {what} with {quoted(was)}; go on with that, "
            f"choose another run.out, or remove {directory} to run the stage again"
        )


def is_finished(directory: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a stage has ended with just these settings."""
    try:
        return finished(directory, settings) is not None
    except InputError:
        return False


def digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of settings, which stands for them in the records of later stages."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _difference(was: Any, now: Any, name: str) -> tuple[str, Any, Any] | None:
    """The first place where two plain data differ, by its name, and both values."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}):
            found = _difference(was.get(key), now.get(key), f"{name}.{key}")
            if found is not None:
                return found
        return None
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = enumerate(zip(was, now, strict=True))
        return next(filter(None, (_difference(a, b, f"{name}.{index}") for index, (a, b) in pairs)), None)
    return None if was == now else (name, was, now)
