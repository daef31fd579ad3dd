"""Calls of Llama 3: bare `{"name": ..., "parameters": {...}}`, several after semicolons or on lines of their own.

`<|python_tag|>` may stand in front.
"""

from collections.abc import Sequence

from .call import Function
from .cursor import Cursor, Reads
from .format import Format, Spell, json_rule, schema_of_call
from .json_text import read_calls, read_known_calls, read_more_calls
from .pythonic import read_bare, read_tagged

_TAG = "<|python_tag|>"


def _read(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    yield from cursor.expect(_TAG)
    yield from read_calls(cursor)
    yield from read_more_calls(cursor)


def _rule(functions: Sequence[Function], spell: Spell, template: str) -> str:
    calls = json_rule("call", [schema_of_call(function, "parameters") for function in functions])
    return f"start: call\n{calls}"


LLAMA = Format(
    name="llama",
    signs=(_TAG, "<|start_header_id|>"),
    markers=(_TAG,),
    readers=(_read, read_tagged),
    bare_readers=(read_known_calls, read_bare),
    rule=_rule,
)
