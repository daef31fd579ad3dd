"""Calls of LFM2: `<|tool_call_start|>[get_weather(city="Rome")]<|tool_call_end|>`, in Python's notation or in JSON."""

from collections.abc import Sequence

from .call import Function
from .format import Format, Spell
from .json_text import between
from .pythonic import list_rule, read_bare, read_tagged

_BEGIN, _END = "<|tool_call_start|>", "<|tool_call_end|>"


def _rule(functions: Sequence[Function], spell: Spell, template: str) -> str:
    return f"start: {spell(_BEGIN)} list {spell(_END)}\n{list_rule(functions)}"


LFM2 = Format(
    name="lfm2",
    signs=(_BEGIN, "<|tool_list_start|>"),
    markers=(_BEGIN,),
    tokens=(_END,),
    readers=(between(_BEGIN, _END), read_tagged),
    bare_readers=(read_bare,),
    rule=_rule,
)
