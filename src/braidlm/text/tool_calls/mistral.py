"""Calls of Mistral: `[TOOL_CALLS][{"name": ..., "arguments": {...}}]`, and `[TOOL_CALLS]NAME[ARGS]{...}` since 2025."""

import re
from collections.abc import Sequence

from .call import Function, arguments_of, checked_name, loads
from .cursor import Cursor, Reads
from .format import Format, Spell, json_rule, schema_of_call
from .json_text import json_value, read_calls

_BEGIN, _ID, _ARGUMENTS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_NAME = re.compile(r"[\w.-]*")


def _read(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    yield from cursor.expect(_BEGIN)
    if (yield from cursor.space()) in ("[", "{"):
        yield from read_calls(cursor)
        return
    name = checked_name((yield from cursor.run(_NAME)))
    if (yield from cursor.space()) == "[":
        yield from cursor.read_char()
        if (yield from cursor.peek()) == _ID[1]:  # an id of the model's own: clients get another one
            yield from cursor.expect(_ID[1:])
            yield from cursor.run(_NAME)
            yield from cursor.expect("[")
        yield from cursor.expect(_ARGUMENTS[1:])
    cursor.add_call(name, arguments_of(loads((yield from json_value(cursor)))))


def _rule(functions: Sequence[Function], spell: Spell, template: str) -> str:
    if _ARGUMENTS not in template:
        calls = json_rule("call", [schema_of_call(function) for function in functions])
        return f'start: {spell(_BEGIN)} "[" call "]"\n{calls}'
    names = [f"call_{number}" for number in range(len(functions))]
    rules = [
        f"{name}: {spell(function.name)} {spell(_ARGUMENTS)} {name}_arguments\n"
        + json_rule(f"{name}_arguments", [dict(function.parameters) or {"type": "object"}])
        for name, function in zip(names, functions, strict=True)
    ]
    return f"start: {spell(_BEGIN)} ({' | '.join(names)})\n{''.join(rules)}"


MISTRAL = Format(
    name="mistral",
    signs=(_BEGIN,),
    markers=(_BEGIN,),
    tokens=(_ARGUMENTS, _ID),
    readers=(_read,),
    rule=_rule,
)
