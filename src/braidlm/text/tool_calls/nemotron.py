"""Calls of Nemotron Nano 2 and Llama-Nemotron: `<TOOLCALL>[{"name": ..., "arguments": {...}}, ...]</TOOLCALL>`.

Nemotron 3 writes tags within tags: see `qwen_xml`.
"""

from collections.abc import Sequence

from .call import Function
from .format import Format, Spell, json_rule, schema_of_call
from .json_text import between, read_known_calls

_BEGIN, _END = "<TOOLCALL>", "</TOOLCALL>"


def _rule(functions: Sequence[Function], spell: Spell, template: str) -> str:
    calls = json_rule("call", [schema_of_call(function) for function in functions])
    return f'start: {spell(_BEGIN)} "[" call "]" {spell(_END)}\n{calls}'


NEMOTRON = Format(
    name="nemotron",
    signs=(_BEGIN,),
    markers=(_BEGIN,),
    tokens=(_END,),
    readers=(between(_BEGIN, _END),),
    bare_readers=(read_known_calls,),
    rule=_rule,
)
