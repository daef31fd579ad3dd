"""Reading of a text that comes in pieces: parsers are generators that wait where the text does not go on yet.

A parser reads through a `Cursor` and gives each call as soon as it is complete. What it read since the last call is
handed back if the text turns out to be none.
"""

import json
import re
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from .call import Call, Function, MismatchError, require_depth

Result = TypeVar("Result")
Reads = Generator[None, None, Result]

_SPACE = re.compile(r"\s*")


class Cursor:
    """Position in a text that is still being written."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._piece = ""
        self._at = 0
        self._begin = 0  # of what is not certain yet, in the piece
        self._before: list[str] = []  # what is not certain yet of earlier pieces
        self._ended = False

    def append_text(self, text: str) -> None:
        """Appends a piece of text; what is there already was read."""
        self._before.append(self._piece[self._begin :])
        self._piece, self._at, self._begin = text, 0, 0

    def end(self) -> None:
        """Tells that nothing more comes."""
        self._ended = True

    def pending(self) -> str:
        """The text after the last certain place, read or not."""
        return "".join(self._before) + self._piece[self._begin :]

    def commit(self) -> None:
        """Makes certain what was read so far: it belongs to calls."""
        self._before.clear()
        self._begin = self._at

    def add_call(self, name: str, arguments: dict[str, object]) -> None:
        """Adds a call that ends here; `MismatchError` if its arguments are too deep, or no JSON can hold them."""
        require_depth(arguments)
        try:
            json.dumps(arguments, ensure_ascii=False).encode()
        except ValueError as error:  # half of a surrogate pair, or a number without end
            raise MismatchError(str(error)) from None
        self.calls.append(Call(name, arguments))
        self.commit()

    def peek(self) -> Reads[str]:
        """The next character, not taken; "" at the end of the text."""
        while self._at == len(self._piece):
            if self._ended:
                return ""
            yield
        return self._piece[self._at]

    def read_char(self) -> Reads[str]:
        """The next character; `MismatchError` at the end of the text."""
        char = yield from self.peek()
        if not char:
            raise MismatchError("the text ends within a call")
        self._at += 1
        return char

    def run(self, pattern: re.Pattern[str]) -> Reads[str]:
        """The longest run of a class of characters, which `pattern` matches wherever it is cut."""
        parts: list[str] = []
        while (yield from self.peek()):
            match = pattern.match(self._piece, self._at)
            self._at = match.end() if match else self._at
            parts.append(match[0] if match else "")
            if self._at < len(self._piece):
                break
        return "".join(parts)

    def space(self) -> Reads[str]:
        """White space, and the character after it, not taken."""
        yield from self.run(_SPACE)
        return (yield from self.peek())

    def expect(self, text: str) -> Reads[None]:
        """Takes exactly `text`."""
        for wanted in text:
            if (yield from self.read_char()) != wanted:
                raise MismatchError(f"{text!r} was expected")

    def close(self, text: str) -> Reads[None]:
        """Takes the text that closes a call, or as much of it as there is before the end."""
        yield from self.space()
        for wanted in text:
            char = yield from self.peek()
            if not char:
                break
            if char != wanted:
                raise MismatchError(f"{text!r} was expected")
            self._at += 1
        self.commit()

    def one_of(self, names: Sequence[str]) -> Reads[str]:
        """Takes characters as long as they begin one of `names`; what was taken."""
        taken = ""
        while char := (yield from self.peek()):
            if not any(name.startswith(taken + char) for name in names):
                break
            taken += char
            self._at += 1
        return taken


Parser = Callable[[Cursor, Sequence[Function]], Reads[None]]


class Reading:
    """One parser on its way through a text."""

    def __init__(self, parser: Parser, functions: Sequence[Function]) -> None:
        self._cursor = Cursor()
        self._steps = parser(self._cursor, functions)
        self.ended = False
        self.gave = False  # whether a call was taken from it

    def push(self, text: str) -> None:
        """Reads on."""
        self._cursor.append_text(text)
        self._go_on()

    def finish(self) -> None:
        """Ends the text."""
        self._cursor.end()
        self._go_on()

    def _go_on(self) -> None:
        if self.ended:
            return
        try:
            next(self._steps)
        except StopIteration:
            self.ended = True
            self._cursor.commit()
        except MismatchError:
            self.ended = True

    @property
    def calls(self) -> Sequence[Call]:
        """Complete calls that were not taken yet."""
        return self._cursor.calls

    def new_calls(self) -> tuple[Call, ...]:
        """Takes the calls that were completed since this was asked last."""
        calls = tuple(self._cursor.calls)
        self._cursor.calls.clear()
        self.gave = self.gave or bool(calls)
        return calls

    def pending(self) -> str:
        """Text that was read and belongs to no complete call."""
        return self._cursor.pending()
