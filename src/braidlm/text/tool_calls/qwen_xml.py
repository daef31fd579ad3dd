"""Calls of Qwen 3 Coder and Nemotron 3, tags within tags.

`<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`, with line ends between them. Values
are plain text; what a value is follows from the function's schema.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .call import Function, MismatchError, arguments_of, checked_name, loads
from .cursor import Cursor, Reads
from .format import AS_RENDERED, Format, Spell
from .hermes import BEGIN, END
from .json_text import json_value

_FUNCTION = "<function="
_TO_TAG_END = re.compile(r"[^>]*")
# What may end a value, and what comes then: within a value the same tags are text.
_ENDS = re.compile(r"</parameter>\s*(?:<parameter=([^<>]+)>|</function>)\Z")
_TAIL = 300  # characters in which the end of a value is looked for
_REFERENCES = 8


def _read(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    if (yield from cursor.take()) + (yield from cursor.take()) == BEGIN[:2]:
        yield from cursor.expect(BEGIN[2:])
        yield from cursor.space()
        yield from cursor.expect(_FUNCTION)
    else:  # models leave the outer tag out now and then
        yield from cursor.expect(_FUNCTION[2:])
    yield from _read_function(cursor, functions)
    while (yield from cursor.space()) == "<":
        yield from cursor.take()
        if (yield from cursor.peek()) == "/":
            yield from cursor.close(END[1:])
            return
        yield from cursor.expect(_FUNCTION[1:])
        yield from _read_function(cursor, functions)


def _read_function(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    name = checked_name((yield from cursor.run(_TO_TAG_END)).strip())
    yield from cursor.expect(">")
    if (yield from cursor.space()) == "{":  # the arguments as JSON
        arguments = arguments_of(loads((yield from json_value(cursor))))
        yield from cursor.space()
        yield from cursor.expect("</function>")
        cursor.give(name, arguments)
        return
    schema = next((function.parameters for function in functions if function.name == name), {})
    arguments = {}
    key = yield from _first_key(cursor)
    while key is not None:
        value, following = yield from _value(cursor)
        arguments[key] = typed(value, schema, schema.get("properties", {}).get(key))
        key = following
    cursor.give(name, arguments)


def _first_key(cursor: Cursor) -> Reads[str | None]:
    """The name in a parameter's tag; None where the function ends."""
    yield from cursor.expect("<")
    if (yield from cursor.peek()) == "/":
        yield from cursor.expect("/function>")
        return None
    yield from cursor.expect("parameter=")
    key = yield from cursor.run(_TO_TAG_END)
    yield from cursor.expect(">")
    return key.strip()


def _value(cursor: Cursor) -> Reads[tuple[str, str | None]]:
    """The text of a value, and the name of the parameter after it, if there is one."""
    parts: list[str] = []
    tail = ""
    while True:
        part = (yield from cursor.run(_TO_TAG_END)) + (yield from cursor.take())
        parts.append(part)
        tail = (tail + part)[-_TAIL:]
        if found := _ENDS.search(tail):
            text = "".join(parts)[: -len(found[0])]
            return text.removeprefix("\n").removesuffix("\n"), found[1]


def typed(value: str, root: Mapping[str, Any], schema: Any) -> Any:
    """The value that a text stands for, by its schema; `root` is the schema that it is a part of."""
    types = set(_types(root, schema, _REFERENCES))
    if "string" in types or not types:
        return None if "null" in types and value.strip() in ("null", "None") else value
    for text in (value, value.strip().lower()):  # models write Python's True and None, too
        try:
            return loads(text)
        except MismatchError:
            continue
    return value


def _types(root: Mapping[str, Any], schema: Any, left: int) -> Iterator[str]:
    """The JSON types that a schema allows, as far as it says."""
    if not isinstance(schema, Mapping) or not left:
        return
    named = schema.get("type", ())
    yield from [named] if isinstance(named, str) else named
    values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]
    yield from (_TYPE_NAMES[type(value)] for value in values if type(value) in _TYPE_NAMES)
    for key in ("anyOf", "oneOf", "allOf"):
        for item in schema.get(key, ()):
            yield from _types(root, item, left - 1)
    match str(schema.get("$ref", "")).split("/"):
        case ["#", place, name]:
            yield from _types(root, root.get(place, {}).get(name), left - 1)


_TYPE_NAMES = {
    str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null", list: "array", dict: "object",
}  # fmt: skip


def _rule(functions: Sequence[Function], spell: Spell, template: str) -> str:
    names = [f"call_{number}" for number in range(len(functions))]
    calls = "".join("".join(_rules_of(function, name)) for function, name in zip(functions, names, strict=True))
    return f'start: {spell(BEGIN)} "\\n" ({" | ".join(names)}) "\\n" {spell(END)}\n{calls}{_TEXT}'


# Any text up to the tag that ends it.
_TEXT = 'text[suffix="\\n</parameter>\\n"]: /(?s:.*)/\n'


def _rules_of(function: Function, name: str) -> Iterator[str]:
    properties = function.parameters.get("properties", {})
    required = function.parameters.get("required", ())
    parameters = [f"{name}_{n}" + ("" if key in required else "?") for n, key in enumerate(properties)]
    yield f'{name}: {json.dumps(f"{_FUNCTION}{function.name}>" + chr(10))} {" ".join(parameters)} "</function>"\n'
    for number, (key, schema) in enumerate(properties.items()):
        tag = json.dumps(f"<parameter={key}>\n")
        yield f"{name}_{number}: {tag} {_value_rule(function, schema, f'{name}_{number}_json')}"


def _value_rule(function: Function, schema: Any, name: str) -> str:
    """The rest of a parameter's rule: its value, its end tag, and rules that these need."""
    end = json.dumps("\n</parameter>\n")
    values = schema.get("enum") if isinstance(schema, Mapping) else None
    if values and all(isinstance(value, str) for value in values):
        return f"({' | '.join(map(json.dumps, values))}) {end}\n"
    types = set(_types(function.parameters, schema, _REFERENCES))
    if "string" in types or not types:
        return "text\n"
    definitions = {key: function.parameters[key] for key in ("$defs", "definitions") if key in function.parameters}
    text = json.dumps({**schema, **definitions, "x-guidance": AS_RENDERED})
    return f"{name} {end}\n{name}: %json {text}\n"


QWEN_XML = Format(
    name="qwen-xml", signs=(_FUNCTION,), markers=(BEGIN, _FUNCTION), tokens=(END,), readers=(_read,), rule=_rule
)
