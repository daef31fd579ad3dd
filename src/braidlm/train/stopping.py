"""Signals that end a run: the first Ctrl-C or SIGTERM lets it finish its step and store a checkpoint.

A second one ends the process at once, also where it is deep in a computation or waits for other processes: a thread
counts signals, since Python's own handlers run only between two operations.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = b"\x1b[?25h\n"  # which progress bars hide


class Stopping:
    """Context in which a first signal is kept in `signal` and `noted` is called; a second one ends the process.

    Signals that this process was started to ignore stay ignored.
    """

    def __init__(self, noted: Callable[[], None] = lambda: None) -> None:
        self.signal = 0
        self._noted = noted
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=_count, args=(reading, set(self._before)), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writing.close()
        self._thread.join()

    def _note(self, number: int, _: FrameType | None) -> None:
        if not self.signal:
            self.signal = number
            self._noted()


def _count(numbers: socket.socket, counted: set[int]) -> None:
    """Ends the process at the second signal."""
    seen = 0
    with numbers:
        while number := numbers.recv(1):
            seen += number[0] in counted
            if seen == 2:
                if os.isatty(2):
                    os.write(2, _SHOW_CURSOR)
                os._exit(128 + number[0])
