"""What a run tells while it goes: a line of JSON for each step, and TensorBoard's curves where they are wanted."""

import json
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError, UnavailableError
from ..files import parse_json

FILE = "log.jsonl"


class _Writer(Protocol):
    def add_scalar(self, tag: str, value: float, step: int) -> None: ...
    def add_text(self, tag: str, text: str, step: int) -> None: ...
    def flush(self) -> None: ...


class Record:
    """The log `log.jsonl` of a directory, and `tensorboard/` beside it."""

    def __init__(self, directory: Path, step: int, *, tensorboard: bool) -> None:
        """Goes on after `step`: what a killed run wrote behind its last checkpoint is taken out."""
        self._file = directory / FILE
        self._board = _board(directory / "tensorboard", step) if tensorboard else None
        lines = [line for line in read(self._file) if line["step"] <= step]
        try:
            self._file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        except OSError as error:
            raise InputError(f"cannot write {self._file}: {error.strerror}") from None

    def add(self, step: int, **facts: Any) -> None:
        """Numbers become curves, words become texts."""
        try:
            with self._file.open("a") as file:
                file.write(json.dumps({"step": step, **facts}) + "\n")
        except OSError as error:
            raise InputError(f"cannot write {self._file}: {error.strerror}") from None
        if self._board is None:
            return
        for name, value in facts.items():
            if isinstance(value, str):
                self._board.add_text(name, value, step)
            elif isinstance(value, (int, float)):
                self._board.add_scalar(name, value, step)
        self._board.flush()


def read(file: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that was cut off by a kill is left out."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text().splitlines():
        try:
            found.append(parse_json(line))
        except ValueError:
            continue
    return found


def _board(directory: Path, step: int) -> _Writer:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (optional, and slow to import)
    except ImportError:
        raise UnavailableError(
            "TensorBoard is not here: pip install 'braidlm[train]', or set run.tensorboard=false"
        ) from None
    return SummaryWriter(str(directory), purge_step=step + 1)
