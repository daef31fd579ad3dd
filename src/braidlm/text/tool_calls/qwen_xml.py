"""Calls of Qwen 3 Coder and Nemotron 3, tags within tags.

`<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`, with line ends between them. Values
are plain text; what a value is follows from the function's schema.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .call import Function, MismatchError, arguments_of, checked_name, loads, require_depth
from .cursor import Cursor, Reads
from .format import AS_RENDERED, Format, Spell
from .hermes import BEGIN, END
from .json_text import json_value
from .literal import WORDS, literal

_FUNCTION = "<function="
_TO_TAG_END = re.compile(r"[^>]*")
_NAME = re.compile(r"[^<>\n]*")
# What may end a value, and what comes then: within a value the same tags are text.
_ENDS = re.compile(r"</parameter>\s*(?:<parameter=([^<>\n]+)>|</function>)\Z")
_TAIL = 300  # characters in which the end of a value is looked for


def _read(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    if (yield from cursor.read_char()) + (yield from cursor.read_char()) == BEGIN[:2]:
        yield from cursor.expect(BEGIN[2:])
        yield from cursor.space()
        yield from cursor.expect(_FUNCTION)
    else:  # models leave the outer tag out now and then
        yield from cursor.expect(_FUNCTION[2:])
    yield from _read_function(cursor, functions)
    while (yield from cursor.space()) == "<":
        yield from cursor.read_char()
        if (yield from cursor.peek()) == "/":
            yield from cursor.close(END[1:])
            return
        yield from cursor.expect(_FUNCTION[1:])
        yield from _read_function(cursor, functions)


def _read_function(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    name = checked_name((yield from cursor.run(_NAME)).strip())
    yield from cursor.expect(">")
    if (yield from cursor.space()) == "{":  # the arguments as JSON
        arguments = arguments_of(loads((yield from json_value(cursor))))
        yield from cursor.space()
        yield from cursor.expect("</function>")
        cursor.add_call(name, arguments)
        return
    schema = next((function.parameters for function in functions if function.name == name), {})
    arguments = {}
    key = yield from _first_key(cursor)
    while key is not None:
        value, following = yield from _value(cursor)
        arguments[key] = typed(value, schema, schema.get("properties", {}).get(key))
        key = following
    cursor.add_call(name, arguments)


def _first_key(cursor: Cursor) -> Reads[str | None]:
    """The name in a parameter's tag; None where the function ends."""
    yield from cursor.expect("<")
    if (yield from cursor.peek()) == "/":
        yield from cursor.expect("/function>")
        return None
    yield from cursor.expect("parameter=")
    key = yield from cursor.run(_NAME)
    yield from cursor.expect(">")
    return key.strip()


def _value(cursor: Cursor) -> Reads[tuple[str, str | None]]:
    """The text of a value, and the name of the parameter after it, if there is one."""
    parts: list[str] = []
    tail = ""
    while True:
        part = (yield from cursor.run(_TO_TAG_END)) + (yield from cursor.read_char())
        parts.append(part)
        tail = (tail + part)[-_TAIL:]
        if found := _ENDS.search(tail):
            text = "".join(parts)[: -len(found[0])]
            return text.removeprefix("\n").removesuffix("\n"), found[1] and found[1].strip()


def typed(value: str, root: Mapping[str, Any], schema: Any) -> Any:
    """The value that a text stands for, by its schema; `root` is the schema that it is a part of."""
    types = _types(root, schema)
    text = value.strip()
    if "string" in types or not types:
        return None if "null" in types and text in ("null", "None") else value
    if text.lower() in WORDS:  # models write Python's True and None, too
        return WORDS[text.lower()]
    try:
        # Within brackets in Python's notation, too; 1,200 is no list.
        found = literal(text) if text.startswith(("[", "{")) else loads(text)
        require_depth({"value": found})
        return found
    except MismatchError:
        return value


def _types(root: Mapping[str, Any], schema: Any) -> set[str]:
    """The JSON types that a schema allows, as far as it says; each reference is followed once."""
    found: set[str] = set()
    followed: set[str] = set()
    left = [schema]
    while left:
        if not isinstance(schema := left.pop(), Mapping):
            continue
        named, reference = schema.get("type"), schema.get("$ref")
        found |= {name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)}
        values = [*_listed(schema, "enum"), *([schema["const"]] if "const" in schema else [])]
        found |= {_TYPE_NAMES[type(value)] for value in values if type(value) in _TYPE_NAMES}
        left += [item for key in ("anyOf", "oneOf", "allOf") for item in _listed(schema, key)]
        if isinstance(reference, str) and reference not in followed:
            followed.add(reference)
            left.append(_referred(root, reference))
    return found


def _listed(schema: Mapping[str, Any], key: str) -> list[Any]:
    """Entries that a schema lists under `key`; nothing where that is no list: clients write schemas, right or wrong."""
    found = schema.get(key)
    return found if isinstance(found, list) else []


def _referred(root: Mapping[str, Any], reference: str) -> Any:
    """The schema that a reference as in `#/$defs/NAME` is about; None for any other."""
    match reference.split("/"):
        case ["#", place, name] if isinstance(root.get(place), Mapping):
            return root[place].get(name)
    return None


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
    values = _listed(schema, "enum") if isinstance(schema, Mapping) else []
    if values and all(isinstance(value, str) for value in values):
        return f"({' | '.join(map(json.dumps, values))}) {end}\n"
    types = _types(function.parameters, schema)
    if "string" in types or not types:
        return "text\n"
    definitions = {key: function.parameters[key] for key in ("$defs", "definitions") if key in function.parameters}
    text = json.dumps({**schema, **definitions, "x-guidance": AS_RENDERED})
    return f"{name} {end}\n{name}: %json {text}\n"


QWEN_XML = Format(
    name="qwen-xml", signs=(_FUNCTION,), markers=(BEGIN, _FUNCTION), tokens=(END,), readers=(_read,), rule=_rule
)
