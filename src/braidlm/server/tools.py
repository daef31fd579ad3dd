"""Tools: what the model's template is told of them, the rule that forces a call, and calls found in what was written.

Models write calls as their templates show them: JSON within `<tool_call>` tags (Hermes, Qwen, Granite 4), after a
marker (Mistral, Granite 3), or bare (Llama 3). All of these are read.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ..continuation import overlap
from ..engine import Grammar
from ..tokenizer import Tokenizer
from .errors import RefusedError
from .replies import FunctionReply, ToolCallReply
from .requests import ChatMessage, ChatRequest, Tool, ToolChoice

_TAG, _END = "<tool_call>", "</tool_call>"
# Calls are written as templates write them again, so that they are the same tokens in the next turn.
_AS_RENDERED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_MARKERS = (_TAG, "<|tool_call|>", "[TOOL_CALLS]")


def tools_of(body: ChatRequest, tokenizer: Tokenizer) -> list[Tool]:
    """The tools that the model may use for this request; refused if its template has no place for them."""
    if not body.tools:
        if isinstance(body.tool_choice, ToolChoice) or body.tool_choice == "required":
            raise RefusedError(400, "tool_choice asks for a tool, but there are no tools", param="tool_choice")
        return []
    if "tools" not in tokenizer.template_variables:
        raise RefusedError(400, "this model's chat template has no place for tools", param="tools")
    names = [tool.function.name for tool in body.tools]
    if len(set(names)) < len(names):
        raise RefusedError(400, "two of the tools have the same name", param="tools")
    return [] if body.tool_choice == "none" else body.tools


def rule_of(body: ChatRequest, tools: Sequence[Tool], tokenizer: Tokenizer) -> Grammar | None:
    """The rule that an answer must follow so that it is a call, where one is asked for."""
    if not tools or body.tool_choice == "auto":
        return None
    wanted = body.tool_choice.function.name if isinstance(body.tool_choice, ToolChoice) else None
    chosen = [tool.function for tool in tools if wanted in (None, tool.function.name)]
    if not chosen:
        raise RefusedError(400, f"tool_choice names {wanted!r}, which is none of the tools", param="tool_choice")
    call = {"anyOf": [_schema_of_call(tool.name, tool.parameters) for tool in chosen], "x-guidance": _AS_RENDERED}
    if _TAG not in (tokenizer.chat_template or ""):
        return Grammar.of_schema(call)
    # A tag that is a token of its own is called by its bare name in the grammar.
    begin, end = (tag if tokenizer.id_of(tag) in tokenizer.special_ids else json.dumps(tag) for tag in (_TAG, _END))
    return Grammar("lark", f'start: {begin} "\\n" call "\\n" {end}\ncall: %json {json.dumps(call)}\n')


def _schema_of_call(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    properties = {"name": {"const": name}, "arguments": dict(parameters) or {"type": "object"}}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def for_template(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Messages as templates expect them: content as one text, arguments of calls as objects."""
    return [_message(message) for message in messages]


def _message(message: ChatMessage) -> dict[str, Any]:
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": content or ""}
    if message.name is not None:
        plain["name"] = message.name
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if message.tool_calls is not None:
        calls = [(call.id, call.function) for call in message.tool_calls]
        plain["tool_calls"] = [_call(id, function.name, function.arguments) for id, function in calls]
    return plain


def _call(name: str, function: str, arguments: str) -> dict[str, Any]:
    try:
        read = json.loads(arguments)
    except (ValueError, RecursionError):
        raise RefusedError(400, f"the arguments of call {name} are no valid JSON", param="messages") from None
    return {"id": name, "type": "function", "function": {"name": function, "arguments": read}}


def stored(content: str, calls: Sequence[ToolCallReply]) -> dict[str, Any]:
    """An answer as a message for templates."""
    made = [_call(call.id, call.function.name, call.function.arguments) for call in calls]
    return {"role": "assistant", "content": content, **({"tool_calls": made} if made else {})}


def for_client(message: Mapping[str, Any]) -> dict[str, Any]:
    """A stored message as clients know it: arguments as text."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, **({"tool_calls": calls} if calls else {})}


class CallReader:
    """Takes calls out of a text that comes in pieces; what may belong to one is held back until the end."""

    def __init__(self, tools: Sequence[Tool], parallel: bool = True) -> None:
        """`parallel` False takes the first call only."""
        self._names = {tool.function.name for tool in tools}
        self._most = None if parallel else 1
        self._held = ""
        self._shown = False

    def push(self, text: str) -> str:
        """What can be shown after `text`."""
        if not self._names:
            return text
        self._held += text
        begun = self._held.lstrip()
        if not self._shown and (not begun or begun[0] in "{["):  # perhaps a bare call
            return ""
        places = [place for marker in _MARKERS if (place := self._held.find(marker)) >= 0]
        cut = min(places) if places else len(self._held) - max(overlap(self._held, marker) for marker in _MARKERS)
        shown, self._held = self._held[:cut], self._held[cut:]
        self._shown = self._shown or bool(shown.strip())
        return shown

    def finish(self) -> tuple[str, list[ToolCallReply]]:
        """What is left to show, and the calls."""
        calls = [call for text in _candidates(self._held) for call in self._calls(text)][: self._most]
        return ("" if calls else self._held), calls

    def _calls(self, text: str) -> list[ToolCallReply]:
        try:
            read = json.loads(text)
        except (ValueError, RecursionError):
            return []
        items = read if isinstance(read, list) else [read]
        found = []
        for item in items:
            name = item.get("name") if isinstance(item, dict) else None
            if not isinstance(name, str) or name not in self._names:
                return []
            arguments = json.dumps(item.get("arguments", item.get("parameters", {})))
            function = FunctionReply(name=name, arguments=arguments)
            found.append(ToolCallReply(id=f"call_{secrets.token_hex(12)}", function=function))
        return found


def _candidates(text: str) -> list[str]:
    """The parts of a text that may be calls."""
    if _TAG in text:
        return [part.split(_END)[0] for part in text.split(_TAG)[1:]]
    for marker in _MARKERS:
        text = text.replace(marker, "")
    return [text]
