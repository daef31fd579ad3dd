"""Process in which rules are compiled first: started when the first one comes, kept warm, started anew when it dies."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection
from pathlib import Path

from ..errors import BusyError, UnavailableError

_PROGRAM = Path(__file__).with_name("rule_compiler.py")
_START_S = 60.0
_COMPILE_S = 2.0
# Rules that may wait for the one that is compiled, and for how long. One that people write takes some 10 ms, so that a
# team that begins at once is served; where some take seconds, who waits is told to come again. Each waits in its
# caller's thread, of which a server has twice as many.
_WAITING = 16
_WAIT_S = 5.0


class RuleProcess:
    """Trial compiler of rules for one vocabulary, in a process of its own. May be used from several threads."""

    def __init__(self, tokenizer_json: Callable[[], str], vocab: int, ends: Collection[int]) -> None:
        """`tokenizer_json` gives the tokenizers library's own description of a vocabulary of `vocab` ids."""
        self._tokenizer_json = tokenizer_json
        self._about = {"vocab": vocab, "ends": sorted(ends)}
        self._lock = threading.Lock()
        self._seats = threading.BoundedSemaphore(_WAITING + 1)
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = lambda: None

    def reason_against(self, kind: str, text: str, defaults: dict[str, str]) -> str:
        """Reason against a rule; "" if it compiles. `BusyError` if too many wait, or this one has for too long."""
        if not self._seats.acquire(blocking=False):
            raise BusyError("too many rules wait to be compiled; try again soon")
        try:
            if not self._lock.acquire(timeout=_WAIT_S):
                raise BusyError("other rules take long to be compiled; try again soon")
            try:
                self._start()
                return self._ask({"kind": kind, "text": text, "defaults": defaults}, _COMPILE_S)
            finally:
                self._lock.release()
        finally:
            self._seats.release()

    def start(self) -> None:
        """Begins to start the process, if it does not run, so that the first rule need not wait for it."""
        threading.Thread(target=self._start_alone, name="braidlm-rules-start", daemon=True).start()

    def _start_alone(self) -> None:
        with self._lock, contextlib.suppress(UnavailableError):  # which the first rule is told
            self._start()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        except OSError as error:
            raise UnavailableError(f"rules for the text need a process of their own: {error}") from None
        self._end = weakref.finalize(self, _stop, self._process)
        wrong = self._ask({**self._about, "tokenizer": self._tokenizer_json()}, _START_S)
        if wrong:
            raise UnavailableError(f"rules for the text cannot be compiled for this vocabulary: {wrong}")

    def _ask(self, asked: dict[str, object], seconds: float) -> str:
        """The process's answer; if it gives none, it is ended."""
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
            return str(json.loads(self._line(seconds)))
        except TimeoutError:
            self._end()
            return f"compiling it takes more than {seconds:g} seconds"
        except (OSError, ValueError):
            self._end()
            return "compiling it takes too much memory or too deep a recursion"

    def _line(self, seconds: float) -> bytes:
        """Next line of the process within so many seconds; `TimeoutError`, or less than a line if it ends before."""
        assert self._process is not None and self._process.stdout is not None
        found, until = b"", time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise TimeoutError
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    break
                found += part
        return found


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was not written any more
                continue
