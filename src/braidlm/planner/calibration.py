"""Calibration: measured rates of this machine (see `measurement`), kept in the user's cache directory.

Forecasts are made of them: a decode step takes a time of its own, each block a time by its kinds of layers, each
weight a time by its format, and each byte of state a time by what computes on it.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import InputError
from ..ops import dispatch
from ..ops.native_loader import extension, why_not
from ..system.files import is_there, read_object, whole_file
from ..system.settings import is_finite
from .probe import machine

# Numbers of rows that are measured: in decode steps, and the last one in a prompt.
STEP_ROWS = (1, 4, 16)
ROWS = (*STEP_ROWS, 256)
_FILE = "calibration.json"
# Of what is measured and how: a calibration of another is not found.
_METHOD = 3


class PromptCost(NamedTuple):
    """Cost of a mixer over a prompt beside its products: seconds of a token and channel of the model, and of a FLOP."""

    channel: float
    flop: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Measured rates of one machine, in seconds; a tuple has one for each of `ROWS` or `STEP_ROWS` rows.

    step: a decode step beside its blocks. blocks: a block's mixer or feed-forward beside weights and state, by kind.
    weights: one weight of a matrix, by format. states: one byte of a recurrent state that each row reads or writes, by
    kind of mixer. kv: one byte of keys or values that each row reads, by their dtype. prompts: by kind of mixer.
    process_bytes: resident memory of a process that holds no model.
    """

    step: tuple[float, ...]
    blocks: Mapping[str, tuple[float, ...]]
    weights: Mapping[str, tuple[float, ...]]
    states: Mapping[str, tuple[float, ...]]
    kv: Mapping[str, tuple[float, ...]]
    prompts: Mapping[str, PromptCost]
    process_bytes: int


def seconds_at(seconds: Sequence[float], rows: float) -> float:
    """Seconds of `rows` rows: on a line between measured numbers of rows, in proportion above the last."""
    measured = ROWS[: len(seconds)]
    if rows >= measured[-1]:
        return seconds[-1] * rows / measured[-1]
    for low, high, early, late in zip(measured, measured[1:], seconds, seconds[1:]):
        if rows <= high:
            return early + (late - early) * max(0.0, rows - low) / (high - low)
    raise AssertionError


def saved() -> Calibration | None:
    """The calibration of this machine, if there is one in the cache; `InputError` for a cache that cannot be read."""
    file = cache_file()
    try:
        kept = read_object(file, InputError).get(_machine_key()) if is_there(file) else None
        return None if kept is None else _calibration_of(kept)
    except (AttributeError, InputError, KeyError, TypeError, ValueError):
        raise InputError(f"{file} is damaged; run braid plan --calibrate to measure this machine anew") from None


def save(calibration: Calibration) -> Path:
    """Keeps the calibration of this machine in the cache, beside those of others; returns the file.

    A file that cannot be read is replaced. `InputError` where none can be written.
    """
    file = _writable_file()
    known: dict[str, Any] = {}
    if is_there(file):
        with contextlib.suppress(InputError):
            known = read_object(file, InputError)
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(known | {_machine_key(): asdict(calibration)}, indent=1))
    return file


def check_cache() -> None:
    """`InputError` unless a calibration can be kept: before measuring, which takes long."""
    with whole_file(_writable_file(), lambda temporary, file: None):
        pass


def _writable_file() -> Path:
    """The file of calibrations, with the directory that it is to be in."""
    file = cache_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write {file}: {error.strerror or error}; XDG_CACHE_HOME names another place"
        ) from None
    return file


def cache_file() -> Path:
    """The file of calibrations: below XDG_CACHE_HOME, or else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "braidlm" / _FILE


def _calibration_of(kept: Mapping[str, Any]) -> Calibration:
    """A calibration as `asdict` and JSON leave it: lists in place of tuples; `ValueError` for what is none."""
    tables = {
        name: {kind: _numbers(seconds, len(rows)) for kind, seconds in kept[name].items()}
        for name, rows in (("blocks", STEP_ROWS), ("weights", ROWS), ("states", STEP_ROWS), ("kv", STEP_ROWS))
    }
    if not all(min(seconds) > 0 for seconds in tables["weights"].values()):
        raise ValueError("a weight takes no time")
    return Calibration(
        step=_numbers(kept["step"], len(STEP_ROWS)),
        prompts={kind: PromptCost(*_numbers(cost, 2)) for kind, cost in kept["prompts"].items()},
        process_bytes=int(*_numbers([kept["process_bytes"]], 1)),
        **tables,
    )


def _numbers(kept: Any, count: int) -> tuple[float, ...]:
    """So many numbers, none less than nothing."""
    if not isinstance(kept, list) or len(kept) != count or not all(is_finite(each) and each >= 0 for each in kept):
        raise ValueError(f"{count} numbers are needed")
    return tuple(kept)


def _machine_key() -> str:
    """What a measurement depends on: the processor, its cores and threads in use, kernels, versions."""
    known = machine()
    names = ("processor", "cores", "memory", "torch", "braidlm")
    native = dispatch.choice() in ("native", "auto") and why_not() is None
    kernels = extension().level() if native else "reference"
    return ", ".join(
        [*(str(known[name]) for name in names), f"{torch.get_num_threads()} threads", kernels, f"method {_METHOD}"]
    )
