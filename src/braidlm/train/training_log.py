"""Log of a run: a line of JSON for each step, and TensorBoard's curves where they are wanted."""

import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError, UnavailableError
from ..system.files import whole_file

FILE = "log.jsonl"


class _Writer(Protocol):
    def add_scalar(self, tag: str, value: float, step: int) -> None: ...
    def add_text(self, tag: str, text: str, step: int) -> None: ...
    def flush(self) -> None: ...


class TrainingLog:
    """Writer of the log `log.jsonl` in a directory, and of `tensorboard/` beside it."""

    def __init__(self, directory: Path, step: int, *, tensorboard: bool) -> None:
        """Opens the log after `step`: what a killed run wrote behind its last checkpoint is taken out.

        A log of which nothing would be left is kept under another name.
        """
        self._file = directory / FILE
        self._board = _board(directory / "tensorboard", step) if tensorboard else None
        kept = [line for line in read_log(self._file) if line["step"] <= step]
        self._seen = {(name, line["step"]) for line in kept for name in line}
        try:
            if not kept and self._file.exists() and self._file.stat().st_size:
                self._file.rename(_free(directory))
            with whole_file(self._file) as file:
                file.write_text("".join(json.dumps(line) + "\n" for line in kept))
        except OSError as error:
            raise InputError(f"cannot write {self._file}: {error.strerror}") from None

    def has_field(self, name: str, step: int) -> bool:
        """Whether the log had this field at a step when it was opened."""
        return (name, step) in self._seen

    def add_line(self, step: int, **facts: Any) -> None:
        """Adds a line to the log; in TensorBoard numbers become curves and strings texts."""
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


def read_log(file: Path) -> list[dict[str, Any]]:
    """Lines of a log; one that was cut off by a kill is left out."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            facts = json.loads(line)  # losses that are not finite among them
        except (ValueError, RecursionError):
            continue
        if isinstance(facts, dict) and type(facts.get("step")) is int:
            found.append(facts)
    return found


def _free(directory: Path) -> Path:
    """Free name for an older log."""
    return next(file for n in itertools.count(1) if not (file := directory / f"log-{n}.jsonl").exists())


def require_tensorboard(*, tensorboard: bool) -> None:
    """`UnavailableError` unless a log can be written; checked before a run."""
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UnavailableError(
            "TensorBoard is not here: pip install '.[train]' in a clone of braidlm, or set run.tensorboard=false"
        )


def _board(directory: Path, step: int) -> _Writer:
    require_tensorboard(tensorboard=True)
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (optional, and slow to import)

    return SummaryWriter(str(directory), purge_step=step + 1)
