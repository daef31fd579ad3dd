"""Messages of a person: from an editor on a terminal, line by line from anywhere else.

What is typed while an answer streams is not shown in it; the terminal keeps it for the next message.
"""

import os
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, Protocol

import typer

from ..errors import InputError

BLOCK = '"""'
# The terminal tells where pasted text begins and ends (DEC private mode 2004).
MARK_PASTES, _NO_MARKS = "\x1b[?2004h", "\x1b[?2004l"


class Reader(Protocol):
    """Source of messages."""

    def read_message(self) -> str:
        """The next message; `EOFError` at the end, `KeyboardInterrupt` for one that is given up."""

    def add_history(self, texts: Sequence[str]) -> None:
        """Adds texts to what the up arrow brings back."""


def is_interactive() -> bool:
    """Whether a person reads and writes on a terminal that can do more than print lines."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextmanager
def quiet_terminal() -> Iterator[None]:
    """A terminal that keeps what is typed between two messages without showing it; Ctrl-C still interrupts.

    Nothing is changed where there is no terminal. Its modes are put back at the end, also after SIGTERM.
    """
    if not is_interactive():
        yield
        return
    terminal = sys.stdin.fileno()
    before, quiet = termios.tcgetattr(terminal), termios.tcgetattr(terminal)
    quiet[0] &= ~termios.ICRNL  # Enter stays what it is, so that the editor tells it from a line feed
    quiet[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON)
    handler = signal.signal(signal.SIGTERM, _leave)
    termios.tcsetattr(terminal, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        write_code(_NO_MARKS)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, handler)


def _leave(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def write_code(code: str) -> None:
    """Gives the terminal a control sequence."""
    sys.stdout.write(code)
    sys.stdout.flush()


def reader() -> Reader:
    """An editor on a terminal, else a reader of lines."""
    if not is_interactive():
        return Lines()
    from .chat_editor import Editor  # prompt_toolkit is of use on a terminal only

    return Editor()


def messages(source: Reader) -> Iterator[str]:
    """Messages until the end of the input, none of them blank."""
    while True:
        try:
            text = source.read_message()
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise InputError(f"standard input is no text in {error.encoding}: {error.reason}") from None
        except KeyboardInterrupt:
            continue
        if text.strip():
            yield text


class Lines:
    """Reader of lines of standard input: a message is one, or several after backslashes or between marks of a block."""

    def read_message(self) -> str:
        """The next message, without blanks around it."""
        try:
            return "\n".join(self._lines()).strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            raise

    def _lines(self) -> list[str]:
        lines = [input("> ")]
        if lines[0].strip() == BLOCK:
            lines.clear()
            while (line := input(". ")).strip() != BLOCK:
                lines.append(line)
            return lines
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(input(". "))
        return lines

    def add_history(self, texts: Sequence[str]) -> None:
        """Does nothing: lines have no history."""
