"""Formats of tool calls, and the choice of the one that a model writes."""

from collections.abc import Callable, Sequence

from ...errors import InputError
from ...system.suggest import did_you_mean
from ..marks import spelled_by
from .call import Function
from .format import Format
from .granite import GRANITE
from .hermes import HERMES
from .lfm2 import LFM2
from .llama import LLAMA
from .mistral import MISTRAL
from .nemotron import NEMOTRON
from .pythonic import PYTHONIC
from .qwen_xml import QWEN_XML

AUTO = "auto"
# The order in which a template's text is searched: a later format's signs may stand in an earlier one's template.
_FORMATS = (MISTRAL, LFM2, GRANITE, NEMOTRON, QWEN_XML, HERMES, PYTHONIC, LLAMA)
_BY_NAME = {tool_format.name: tool_format for tool_format in _FORMATS}
NAMES = (AUTO, *sorted(_BY_NAME))


def check_name(name: str) -> str:
    """The name of a format, or `auto`; `InputError` for any other."""
    if name not in NAMES:
        there = did_you_mean(name, NAMES) or f"; the formats are {', '.join(NAMES)}"
        raise InputError(f"there is no tool format {name!r}{there}")
    return name


def formats_of(name: str, template: str, id_of: Callable[[str], int | None]) -> tuple[Format, ...]:
    """The formats to be read: that of a name, else the one that a chat template or a vocabulary tells of, else all.

    `id_of` gives the id of a token, or None. With several, the first is the one that a model is made to write.
    """
    if check_name(name) != AUTO:
        return (_BY_NAME[name],)
    for tool_format in _FORMATS:
        if any(sign in template for sign in tool_format.signs):
            return (tool_format,)
    for tool_format in _FORMATS:
        if any(id_of(marker) is not None for marker in tool_format.markers):
            return (tool_format, *(other for other in _FORMATS if other is not tool_format))
    # Without any sign a model is made to write bare JSON, which every model knows.
    return (LLAMA, *(tool_format for tool_format in _FORMATS if tool_format is not LLAMA))


def tokens_of(formats: Sequence[Format]) -> frozenset[str]:
    """Texts of control tokens that calls may hold."""
    return frozenset(token for tool_format in formats for token in (*tool_format.markers, *tool_format.tokens))


def rule_of(
    tool_format: Format, functions: Sequence[Function], template: str, control_id_of: Callable[[str], int | None]
) -> str:
    """A grammar in Lark's notation of exactly one call; `control_id_of` gives the ids of control tokens."""
    return tool_format.rule(functions, spelled_by(control_id_of), template)
