"""JSON in a text that comes in pieces: where a value ends, and calls written as JSON.

What cannot be JSON is refused at its first wrong character, so that prose is held back no longer than needed.
"""

import re
from collections.abc import Sequence

from .call import DEPTH, Function, MismatchError, call_of, loads
from .cursor import Cursor, Parser, Reads

_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\]*')
_SCALAR = re.compile(r"[-+.\w]*")
_BEGINS_SCALAR = frozenset("-0123456789tfn")
_KEYS = ("name", "arguments", "parameters", "function", "type", "id")


def json_value(cursor: Cursor) -> Reads[str]:
    """The text of one JSON value, nested `DEPTH` deep at most; numbers and words are not checked here."""
    return (yield from _Scanner(cursor).rest())


class _Scanner:
    """A JSON value on its way: its parts so far, the brackets that are open, and what may come next."""

    def __init__(self, cursor: Cursor, begun: Sequence[str] = (), open: Sequence[str] = (), due: str = "value") -> None:
        self._cursor = cursor
        self._parts = list(begun)
        self._open = list(open)
        self._due = due  # value, item (or the list's end), key, first key (or the object's end), colon, more

    def rest(self) -> Reads[str]:
        """The text of the value, once it is complete."""
        while self._due != "end":
            self._parts.append((yield from self._cursor.run(_SPACE)))
            char = yield from self._cursor.peek()
            if self._due in ("value", "item") and char in _BEGINS_SCALAR:
                self._parts.append((yield from self._cursor.run(_SCALAR)))
                self._completed()
                continue
            self._parts.append((yield from self._cursor.read_char()))
            if char == '"' and self._due in ("value", "item", "key", "first key"):
                self._parts.append((yield from string_body(self._cursor)))
                self._completed()
            else:
                self._structure(char)
        return "".join(self._parts)

    def _completed(self) -> None:
        """Sets what is due after a string, number or word, or a closed bracket."""
        if self._due in ("key", "first key"):
            self._due = "colon"
        else:
            self._due = "more" if self._open else "end"

    def _structure(self, char: str) -> None:
        match self._due, char:
            case (("value" | "item"), "{"):
                self._enter("{", "first key")
            case (("value" | "item"), "["):
                self._enter("[", "item")
            case "colon", ":":
                self._due = "value"
            case "more", ",":
                self._due = "key" if self._open[-1] == "{" else "value"
            case "first key" | "more", "}" if self._open[-1] == "{":
                self._leave()
            case "item" | "more", "]" if self._open[-1] == "[":
                self._leave()
            case _:
                raise MismatchError(f"{char!r} cannot stand here in JSON")

    def _enter(self, bracket: str, due: str) -> None:
        if len(self._open) == DEPTH:
            raise MismatchError("the JSON is nested too deep")
        self._open.append(bracket)
        self._due = due

    def _leave(self) -> None:
        self._open.pop()
        self._due = "more" if self._open else "end"


def string_body(cursor: Cursor) -> Reads[str]:
    """A JSON string after its first quotation mark, the last one included."""
    parts = []
    while True:
        parts.append((yield from cursor.run(_PLAIN)))
        char = yield from cursor.read_char()
        parts.append(char)
        if char == '"':
            return "".join(parts)
        parts.append((yield from cursor.read_char()))


def read_calls(cursor: Cursor) -> Reads[None]:
    """Calls as an object or a list of objects; each is given when it is complete."""
    if (yield from cursor.space()) != "[":
        yield from _read_call(cursor)
        return
    yield from cursor.read_char()
    yield from read_list(cursor)


def read_list(cursor: Cursor) -> Reads[None]:
    """The calls of a list after its opening bracket, up to its closing one."""
    while True:
        yield from _read_call(cursor)
        if not (yield from _goes_on(cursor)):
            return


def _goes_on(cursor: Cursor) -> Reads[bool]:
    """Whether a list has another item; reads the comma after this one, or the closing bracket."""
    char = yield from cursor.space()
    if not char:
        return False
    if char not in ",]":
        raise MismatchError("a list goes on with a comma")
    yield from cursor.read_char()
    cursor.commit()
    return char == ","


def _read_call(cursor: Cursor) -> Reads[None]:
    if (yield from cursor.space()) != "{":
        raise MismatchError("a call is an object")
    cursor.add_call(*call_of(loads((yield from json_value(cursor)))))


def between(begin: str, end: str) -> Parser:
    """Parser of calls between two marks."""

    def read(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
        yield from cursor.expect(begin)
        yield from read_calls(cursor)
        yield from cursor.close(end)

    return read


def read_known_calls(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    """Calls without a marker: an object or a list of them, the first of a known function.

    Further objects may follow, after a semicolon or white space.
    """
    listed = (yield from cursor.space()) == "["
    if listed:
        yield from cursor.read_char()
    yield from _read_known_call(cursor, [function.name for function in functions])
    if not listed:
        yield from read_more_calls(cursor)
    elif (yield from _goes_on(cursor)):
        yield from read_list(cursor)


def read_more_calls(cursor: Cursor) -> Reads[None]:
    """Further objects after a call, each after a semicolon or white space."""
    while (char := (yield from cursor.space())) in (";", "{"):
        if char == ";":
            yield from cursor.read_char()
            cursor.commit()
        else:
            yield from _read_call(cursor)
    raise MismatchError("no more calls")  # what follows is text


def _read_known_call(cursor: Cursor, names: Sequence[str]) -> Reads[None]:
    """A call that is given up as soon as its first key or its name is none of a call's."""
    yield from cursor.space()
    yield from cursor.expect("{")
    yield from cursor.space()
    yield from cursor.expect('"')
    key = yield from cursor.one_of([f'{key}"' for key in _KEYS])
    if not key.endswith('"'):
        raise MismatchError("a call begins with its name or arguments")
    yield from cursor.space()
    yield from cursor.expect(":")
    begun, due = f'{{"{key}:', "value"
    if key == 'name"' or (key == 'function"' and (yield from cursor.space()) == '"'):
        yield from cursor.space()
        yield from cursor.expect('"')
        name = yield from cursor.one_of([f'{name}"' for name in names])
        if not name.endswith('"'):
            raise MismatchError("the name is none of the tools'")
        begun, due = f'{begun}"{name}', "more"
    text = yield from _Scanner(cursor, [begun], ["{"], due).rest()
    call = call_of(loads(text))
    if call.name not in names:
        raise MismatchError("the name is none of the tools'")
    cursor.add_call(*call)
