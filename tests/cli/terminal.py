"""A command on a terminal of its own: what is typed, and what is seen."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyte

BRAID = "from braidlm.cli.main import main; main()"
# So wide and high that little wraps and nothing is scrolled away.
_COLUMNS, _ROWS = 400, 80


class Terminal:
    """The side of a terminal on which a person sits."""

    def __init__(self, *arguments: str) -> None:
        self._own, self._its = pty.openpty()
        fcntl.ioctl(self._its, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self._screen = pyte.Screen(_COLUMNS, _ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self.modes = self.current_modes()
        # A size in the environment is of another terminal, and would go before that of this one.
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environment = {**kept, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", BRAID, *arguments],
            stdin=self._its, stdout=self._its, stderr=self._its, env=environment,
            preexec_fn=lambda: (os.setsid(), os.dup2(os.open(os.ttyname(0), os.O_RDWR), 0)),
        )  # fmt: skip
        self._memory = b""

    def current_modes(self) -> list[Any]:
        """How the terminal takes what is typed."""
        return termios.tcgetattr(self._its)

    def type(self, text: str) -> None:
        """Presses keys."""
        os.write(self._own, text.encode())

    def paste(self, text: str) -> None:
        """Pastes as terminals do that mark it, which is seen by the program only if it asked for the marks."""
        marked = self._memory.rfind(b"\x1b[?2004h") > self._memory.rfind(b"\x1b[?2004l")
        lines = text.replace("\n", "\r")
        self.type(f"\x1b[200~{lines}\x1b[201~" if marked else lines)

    @property
    def row(self) -> int:
        """The row of the screen on which the cursor is."""
        return self._screen.cursor.y

    def seen(self, since: int = 0) -> str:
        """What is on the screen from a row on, to the last line that is not empty."""
        return "\n".join(self._line(row).rstrip() for row in range(since, _ROWS)).rstrip()

    def _line(self, row: int) -> str:
        """What is on a row, to the last cell that was written; `Screen.display` looks at 32,000 cells each time."""
        cells = self._screen.buffer[row]
        return "".join(cells[column].data for column in range(max(cells, default=-1) + 1))

    def wait(self, pattern: str, since: int = 0) -> None:
        """Until a pattern is seen below a row; an error when the program has ended before."""
        until = time.monotonic() + 60
        while not re.search(pattern, self.seen(since)):
            if not self._read() and (self.process.poll() is not None or time.monotonic() > until):
                raise AssertionError(f"{pattern!r} is not in {self.seen(since)!r}")

    def _read(self) -> bool:
        ready, _, _ = select.select([self._own], [], [], 0.1)
        if ready:
            data = os.read(self._own, 65536)
            self._memory += data
            self._stream.feed(data)
        return bool(ready)

    def end(self) -> int:
        """The program's exit code, once it has ended by itself; all that it wrote is read."""
        while self.process.poll() is None:
            self._read()
        while self._read():
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._own)
        os.close(self._its)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    """`braid` with arguments on a terminal, for the time of a `with` block."""
    made = Terminal(*arguments)
    try:
        yield made
    finally:
        made.close()
