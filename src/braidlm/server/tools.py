"""Tools: for the chat template, as the rule that forces a call, and calls as clients know them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..engine import Grammar
from ..text.tokenizer import Tokenizer
from ..text.tool_calls import Format, Function, MismatchError, arguments_of, formats_of, rule_of
from .errors import RefusedError
from .replies import ToolCallReply
from .requests import ChatMessage, ChatRequest, Tool, ToolChoice

# Variables that are not the client's to give, and functions that every template may call.
_OWN = {"messages", "tools", "add_generation_prompt", "raise_exception", "strftime_now"}
_OWN |= {"range", "dict", "namespace", "cycler", "joiner", "lipsum"}


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


def functions_of(tools: Sequence[Tool]) -> list[Function]:
    """Tools as the readers of calls know them."""
    return [Function(tool.function.name, tool.function.parameters) for tool in tools]


def formats_for(name: str, tokenizer: Tokenizer) -> tuple[Format, ...]:
    """The formats in which a model may write calls: the one that is named, or what its template tells."""
    return formats_of(name, tokenizer.tool_template or "", tokenizer.id_of)


def rule_for(
    body: ChatRequest, tools: Sequence[Tool], formats: Sequence[Format], tokenizer: Tokenizer
) -> Grammar | None:
    """The rule that an answer must follow so that it is a call, where one is asked for."""
    if not tools or body.tool_choice == "auto":
        return None
    wanted = body.tool_choice.function.name if isinstance(body.tool_choice, ToolChoice) else None
    chosen = [function for function in functions_of(tools) if wanted in (None, function.name)]
    if not chosen:
        raise RefusedError(400, f"tool_choice names {wanted!r}, which is none of the tools", param="tool_choice")

    def control_id_of(text: str) -> int | None:
        token = tokenizer.id_of(text)
        return token if token in tokenizer.special_ids else None

    rule = rule_of(formats[0], chosen, tokenizer.tool_template or "", control_id_of)
    return Grammar("lark", rule, "tools' parameters")


def variables_of(body: ChatRequest, tokenizer: Tokenizer) -> dict[str, Any]:
    """Variables of the chat template beside messages and tools; refused if it has none of that name."""
    free = sorted(name for name in tokenizer.template_variables - _OWN if not name.endswith("_token"))
    for name in body.chat_template_kwargs:
        if name not in free:
            known = f"it asks for {', '.join(free)}" if free else "it asks for none"
            raise RefusedError(
                400, f"the model's chat template takes no variable {name!r}; {known}", param="chat_template_kwargs"
            )
    return dict(body.chat_template_kwargs)


def for_template(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Messages as templates expect them: content as one text, arguments of calls as objects."""
    return [_message(message) for message in messages]


def _message(message: ChatMessage) -> dict[str, Any]:
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": content or ""}
    for name in ("name", "tool_call_id", "reasoning_content"):
        if (value := getattr(message, name)) is not None:
            plain[name] = value
    if message.tool_calls is not None:
        calls = [(call.id, call.function) for call in message.tool_calls]
        plain["tool_calls"] = [_call(id, function.name, function.arguments) for id, function in calls]
    return plain


def _call(name: str, function: str, arguments: str) -> dict[str, Any]:
    try:
        read = arguments_of(arguments)
    except MismatchError as error:
        sentence = f"the arguments of call {name!r} are no valid JSON object: {error}"
        raise RefusedError(400, sentence, param="messages") from None
    return {"id": name, "type": "function", "function": {"name": function, "arguments": read}}


def calls_for_template(calls: Sequence[ToolCallReply]) -> dict[str, Any]:
    """The calls of an answer as a part of its message for templates; nothing without calls."""
    made = [_call(call.id, call.function.name, call.function.arguments) for call in calls]
    return {"tool_calls": made} if made else {}


def for_client(message: Mapping[str, Any]) -> dict[str, Any]:
    """A stored message as clients know it: arguments as text."""
    calls = message.get("tool_calls")
    return (
        {**message, "tool_calls": [*map(_call_for_client, calls)]} if calls and isinstance(calls, list) else {**message}
    )


def _call_for_client(call: Any) -> Any:
    """A call with its arguments as text; what other programs have stored as a call is shown as it is."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or isinstance(function.get("arguments"), str):
        return call
    return {**call, "function": {**function, "arguments": json.dumps(function.get("arguments"))}}
