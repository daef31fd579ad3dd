"""Calls of Granite 3: `<|tool_call|>[{"name": ..., "arguments": {...}}, ...]`, or a list in Python's notation.

Granite 4 writes as Hermes does.
"""

from collections.abc import Sequence

from .call import Function
from .cursor import Cursor, Reads
from .format import Format, Spell, json_rule, schema_of_call
from .json_text import read_calls, read_known_calls
from .pythonic import read_bare, read_tagged

_BEGIN = "<|tool_call|>"


def _read(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    yield from cursor.expect(_BEGIN)
    yield from read_calls(cursor)


def _rule(functions: Sequence[Function], spell: Spell, template: str) -> str:
    calls = json_rule("call", [schema_of_call(function) for function in functions])
    return f'start: {spell(_BEGIN)} "[" call "]"\n{calls}'


GRANITE = Format(
    name="granite",
    signs=(_BEGIN,),
    markers=(_BEGIN,),
    readers=(_read, read_tagged),
    bare_readers=(read_known_calls, read_bare),
    rule=_rule,
)
