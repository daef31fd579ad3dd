"""Calls as a list of Python's calls: `[get_weather(city="Rome"), add(a=1, b=-2.5)]` (Llama 3.2, Granite, LFM2)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError
from .call import DEPTH, Function, MismatchError
from .cursor import Cursor, Reads
from .format import AS_RENDERED, Format, Spell
from .literal import literal

_NAME = re.compile(r"[\w.-]*")
_KEY = re.compile(r"[\w-]*")
_PLAIN = re.compile(r"[^\"'()\[\]{},]*")
_IN_STRING = {quote: re.compile(rf"[^{quote}\\]*") for quote in "\"'"}
_LINE_ENDS = str.maketrans({"\n": "\\n", "\r": "\\r"})
_CLOSES = {"(": ")", "[": "]", "{": "}"}
# Markers after which a list may stand, with what closes it.
_TAGS = {
    "<tool_call>": "</tool_call>",
    "<|tool_call|>": "",
    "<|tool_call_start|>": "<|tool_call_end|>",
    "<|python_start|>": "<|python_end|>",
    "<|python_tag|>": "",
}


def _read_list(cursor: Cursor, names: Sequence[str] | None) -> Reads[None]:
    """A list of calls, the first of one of `names` if they are given."""
    yield from cursor.expect("[")
    char = ","
    while char == ",":
        yield from cursor.space()
        yield from _read_call(cursor, names)
        names = None
        if not (char := (yield from cursor.peek())):
            return
        yield from cursor.read_char()
        cursor.commit()
        if char == "," and (yield from cursor.space()) == "]":  # a comma after the last one
            char = yield from cursor.read_char()
    cursor.commit()


def _read_call(cursor: Cursor, names: Sequence[str] | None) -> Reads[None]:
    """One call, given once something follows that may follow a call: prose does not end it."""
    if names is None:
        name = yield from cursor.run(_NAME)
        yield from cursor.expect("(")
    else:
        name = yield from cursor.one_of([f"{name}(" for name in names])
    if not name.removesuffix("(") or (names is not None and not name.endswith("(")):
        raise MismatchError("no known function is called")
    arguments = yield from read_arguments(cursor)
    if (yield from cursor.space()) not in (",", "]", ""):
        raise MismatchError("a list goes on with a comma")
    cursor.add_call(name.removesuffix("("), arguments)


def read_arguments(cursor: Cursor) -> Reads[dict[str, Any]]:
    """Keyword arguments after an opening parenthesis, up to the closing one."""
    arguments: dict[str, Any] = {}
    while (yield from cursor.space()) != ")":
        key = yield from cursor.run(_KEY)
        yield from cursor.space()
        yield from cursor.expect("=")
        text = yield from _value(cursor)
        if not key:
            raise MismatchError("an argument has a name")
        arguments[key] = literal(text.strip())
        if (yield from cursor.peek()) == ",":
            yield from cursor.read_char()
    yield from cursor.read_char()
    return arguments


def _value(cursor: Cursor) -> Reads[str]:
    """The text of a value, up to the comma or parenthesis after it, which is not taken."""
    parts: list[str] = []
    open: list[str] = []
    while True:
        parts.append((yield from cursor.run(_PLAIN)))
        char = yield from cursor.peek()
        if not open and char in (",", ")"):
            return "".join(parts)
        parts.append((yield from cursor.read_char()))
        if char in _CLOSES:
            open.append(_CLOSES[char])
        elif char in _IN_STRING:
            parts.append((yield from _string_body(cursor, char)))
        elif char != "," and (not open or open.pop() != char):
            raise MismatchError("brackets do not match")
        if len(open) > DEPTH:
            raise MismatchError("a value is nested too deep")


def _string_body(cursor: Cursor, quote: str) -> Reads[str]:
    """A string after its first quotation mark, with its end: one mark, or three.

    Line ends within one mark, which Python has no place for, are escaped: models write code so.
    """
    parts: list[str] = []
    marks = 1
    while marks < 3 and (yield from cursor.peek()) == quote:
        parts.append((yield from cursor.read_char()))
        marks += 1
    if marks == 2:  # an empty string
        return quote
    run = 0
    while run < marks:
        if part := (yield from cursor.run(_IN_STRING[quote])):
            parts.append(part.translate(_LINE_ENDS) if marks == 1 else part)
            run = 0
        char = yield from cursor.read_char()
        parts.append(char)
        if char == quote:
            run += 1
        else:
            parts.append((yield from cursor.read_char()))
            run = 0
    return "".join(parts)


def read_bare(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    """A list without a marker, whose first function is known."""
    yield from cursor.space()
    yield from _read_list(cursor, [function.name for function in functions])


def read_tagged(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    """A list after a marker, with the tag that closes it."""
    marker = yield from cursor.one_of(tuple(_TAGS))
    yield from cursor.space()
    yield from _read_list(cursor, None)
    yield from cursor.close(_TAGS.get(marker, ""))


def list_rule(functions: Sequence[Function]) -> str:
    """Rules of a list with exactly one call, named `list`."""
    names = [f"call_{number}" for number in range(len(functions))]
    calls = "".join("".join(_rules_of(function, name)) for function, name in zip(functions, names, strict=True))
    return f'list: "[" ({" | ".join(names)}) "]"\n{calls}'


def _rules_of(function: Function, name: str) -> Iterator[str]:
    """Rules of one call: required arguments, and others, in the schema's order.

    `first_k` is what may follow when no argument was written before the k-th, `next_k` when one was.
    """
    properties, required = _properties(function)
    yield f'{name}: {json.dumps(function.name + "(")} {name}_first_0 ")"\n'
    for number, (key, schema) in enumerate(properties.items()):
        yield f"{name}_argument_{number}: {json.dumps(key + '=')} {name}_value_{number}\n"
        yield f"{name}_value_{number}: %json {json.dumps({**schema, 'x-guidance': AS_RENDERED})}\n"
        optional = "" if key in required else f" | {name}_first_{number + 1}"
        yield f"{name}_first_{number}: {name}_argument_{number} {name}_next_{number + 1}{optional}\n"
        mark = "" if key in required else "?"
        yield f'{name}_next_{number}: (", " {name}_argument_{number}){mark} {name}_next_{number + 1}\n'
    yield f'{name}_first_{len(properties)}: ""\n{name}_next_{len(properties)}: ""\n'


def _properties(function: Function) -> tuple[dict[str, dict[str, Any]], Sequence[str]]:
    """The schemas of a function's arguments, each with the definitions that it may refer to; and which are required."""
    schema = function.parameters
    properties = schema.get("properties", {})
    beside = {"$ref", "anyOf", "allOf", "oneOf"} & set(schema)
    if beside or not isinstance(properties, Mapping):
        raise InputError(
            f"the parameters of {function.name!r} must list their properties, so that a call in Python's notation can "
            "be asked for"
        )
    definitions = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    made = {key: (dict(value) if isinstance(value, Mapping) else {}) | definitions for key, value in properties.items()}
    return made, schema.get("required", ())


def _rule(functions: Sequence[Function], spell: Spell, template: str) -> str:
    return f"start: list\n{list_rule(functions)}"


PYTHONIC = Format(
    name="pythonic",
    signs=("[func_name1(",),
    markers=("<|python_start|>", "<|python_tag|>"),
    tokens=("<|python_end|>",),
    readers=(read_tagged,),
    bare_readers=(read_bare,),
    rule=_rule,
)
