"""Verdicts on what a reader did with a damaged file, reached in a process of its own."""

import os
import pickle
import resource
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from typing import NamedTuple

from braidlm.errors import BraidError, LoadingWarning

REFUSED, EQUAL, LAWFUL, FAULT = "refused", "equal", "different-legit", "fault"
LONGEST = 1200
SECONDS = 20  # of the processor; by the clock, which others share, several times as many
_WAITING = 6
_MEMORY = 3 << 30  # bytes of address space beyond those of the parent


class Read(NamedTuple):
    """What a reader did: `result` where it ended well, else the `error` it raised; whether it warned of a loss."""

    result: str
    error: str
    kind: str
    told: bool


class Verdict(NamedTuple):
    """One of the four words above, and for a fault what happened."""

    word: str
    why: str = ""


def read_apart(reader: Callable[[], str], seconds: int = SECONDS) -> Read | str:
    """`reader` in a forked process with bounds on time and memory; a sentence if it did not come to an end."""
    data: bytes | None = None
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here)
        _work(reader, there, seconds)
    os.close(there)
    try:
        data = _until(here, time.monotonic() + _WAITING * seconds)
    finally:
        os.close(here)
        if data is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if data is None:
        return f"no end within {seconds:g} seconds"
    if not data:
        return f"the process ended with status {status}"
    found: Read = pickle.loads(data)
    return found


def _until(pipe: int, end: float) -> bytes | None:
    """What is written until the pipe is closed; None if that takes too long."""
    parts: list[bytes] = []
    while True:
        left = end - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return None
        part = os.read(pipe, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _work(reader: Callable[[], str], pipe: int, seconds: int) -> None:
    """Runs in the child, which it ends."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    found = Read("", "", "", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = Read(reader(), "", "", False)
        except BraidError as error:
            found = Read("", str(error), "braid", False)
        except BaseException as error:  # a panic of a library is one, too
            trace = "".join(traceback.format_exception(error)[-4:])
            found = Read("", f"{type(error).__name__}: {str(error)[:300]} | {trace[-900:]}", "other", False)
    told = any(issubclass(warning.category, LoadingWarning | UserWarning) for warning in caught)
    data = pickle.dumps(found._replace(told=told))
    while data:
        data = data[os.write(pipe, data) :]
    os._exit(0)


def judge(read: Read | str, intact: str, lawful: bool) -> Verdict:
    """The verdict; `lawful` says whether the damaged file is one that a user could have meant."""
    if isinstance(read, str):
        return Verdict(FAULT, read)
    if read.kind == "other":
        return Verdict(FAULT, read.error)
    if read.kind == "braid":
        if "\n" in read.error or not read.error or len(read.error) > LONGEST:
            return Verdict(FAULT, f"no sentence of moderate length ({len(read.error)}): {read.error[:300]!r}")
        return Verdict(REFUSED)
    if read.result == intact:
        return Verdict(EQUAL)
    return Verdict(LAWFUL) if lawful or read.told else Verdict(FAULT, f"silently different: {read.result[:200]}")
