"""Thread of an engine: runs its steps while there is work, and waits while there is none."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ..errors import InputError, as_exception

# Freed memory goes back to the system once in so many seconds of work, and after as many without any.
RELEASE_MEMORY_S = 30.0


class Work(NamedTuple):
    """Work of an engine, as its thread does it.

    step: called while `has_work`. abandon: called at the end, with the reason. release_memory: called now and then.
    """

    step: Callable[[], None]
    has_work: Callable[[], bool]
    abandon: Callable[[Exception], None]
    release_memory: Callable[[], None]


class Worker:
    """Worker of one engine, with a thread of its own once it is started.

    `changed` guards what other threads give it to do, and is notified of that.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.closing = False
        self.failure: Exception | None = None  # that ended the thread
        self._thread: threading.Thread | None = None

    @property
    def has_thread(self) -> bool:
        """Whether the worker was started."""
        return self._thread is not None

    def require_open(self) -> None:
        """`InputError` once the engine is closing; `changed` is held."""
        if self.closing:
            raise InputError("the engine is closed")

    def start(self, work: Work) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._loop, args=(work,), name="braidlm-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, and waits for its end."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _loop(self, work: Work) -> None:
        failure: Exception = InputError("the engine was closed")
        try:
            released = time.monotonic()
            while self._wait_for_work(work):
                work.step()
                if time.monotonic() - released > RELEASE_MEMORY_S:
                    work.release_memory()
                    released = time.monotonic()
        except BaseException as error:  # whatever has happened, nobody may wait for ever
            failure = self.failure = as_exception(error)
        with self.changed:
            self.closing = True
        work.abandon(failure)

    def _wait_for_work(self, work: Work) -> bool:
        """Waits until there is something to do; False when the engine closes."""
        rested = False
        with self.changed:
            while not (self.closing or work.has_work()):
                if not self.changed.wait(None if rested else RELEASE_MEMORY_S):
                    rested = True
                    work.release_memory()
            return not self.closing
