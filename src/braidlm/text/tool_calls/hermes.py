"""Calls of Hermes, Qwen 2.5 and 3, and Granite 4: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

A list in Python's notation within the tags is read as well.
"""

from collections.abc import Sequence

from .call import Function
from .cursor import Cursor, Reads
from .format import Format, Spell, json_rule, schema_of_call
from .json_text import read_calls, read_known_calls
from .pythonic import read_tagged

BEGIN, END = "<tool_call>", "</tool_call>"


def _read(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    yield from cursor.expect(BEGIN)
    yield from read_calls(cursor)
    while (yield from cursor.space()) in ("{", "["):  # several within one pair of tags
        yield from read_calls(cursor)
    yield from cursor.close(END)


def _rule(functions: Sequence[Function], spell: Spell, template: str) -> str:
    calls = json_rule("call", [schema_of_call(function) for function in functions])
    return f'start: {spell(BEGIN)} "\\n" call "\\n" {spell(END)}\n{calls}'


HERMES = Format(
    name="hermes",
    signs=(BEGIN,),
    markers=(BEGIN,),
    tokens=(END,),
    readers=(_read, read_tagged),
    bare_readers=(read_known_calls,),
    rule=_rule,
)
