"""Calls of Llama 3: bare `{"name": ..., "parameters": {...}}`, several after semicolons or on lines of their own.

`<|python_tag|>` may stand in front. Llama's own tools are called as in `<|python_tag|>brave_search.call(query="...")`.
"""

import re
from collections.abc import Sequence

from .call import Function, checked_name
from .cursor import Cursor, Reads
from .format import Format, Spell, json_rule, schema_of_call
from .json_text import read_calls, read_known_calls, read_more_calls
from .pythonic import read_arguments, read_bare, read_tagged

_TAG = "<|python_tag|>"
_OWN_NAME = re.compile(r"[\w-]*")


def _read(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    yield from cursor.expect(_TAG)
    yield from read_calls(cursor)
    yield from read_more_calls(cursor)


def _read_own(cursor: Cursor, functions: Sequence[Function]) -> Reads[None]:
    """A call of one of Llama's own tools."""
    yield from cursor.expect(_TAG)
    yield from cursor.space()
    name = checked_name((yield from cursor.run(_OWN_NAME)))
    yield from cursor.expect(".call(")
    cursor.add_call(name, (yield from read_arguments(cursor)))


def _rule(functions: Sequence[Function], spell: Spell, template: str) -> str:
    calls = json_rule("call", [schema_of_call(function, "parameters") for function in functions])
    return f"start: call\n{calls}"


LLAMA = Format(
    name="llama",
    signs=(_TAG, "<|start_header_id|>"),
    markers=(_TAG,),
    readers=(_read, read_tagged, _read_own),
    bare_readers=(read_known_calls, read_bare),
    rule=_rule,
)
