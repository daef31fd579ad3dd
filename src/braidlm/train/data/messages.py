"""Conversion of messages in training files to those that chat templates expect.

OpenAI's fine-tuning files give contents as null or in parts, the arguments of calls as text, and answers a weight;
ShareGPT's say `from` and `value`.
"""

import json
from collections.abc import Mapping
from typing import Any

from ...errors import InputError, quoted

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_SHARED = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "observation": "tool"}


def template_messages(messages: Any) -> tuple[list[dict[str, Any]], list[bool]]:
    """Messages for a template, and for each whether it is trained on: answers are, unless their weight is 0.

    `InputError` unless these are messages with known roles and texts, one of them the assistant's.
    """
    if not isinstance(messages, list) or not messages:
        raise InputError("holds no messages")
    found = [_message(message, number) for number, message in enumerate(messages, 1)]
    learned = [_is_learned(message, number) for number, message in enumerate(found, 1)]
    if all(message["role"] != "assistant" for message in found):
        raise InputError("is a conversation without a message of the assistant's")
    if not any(learned):
        raise InputError("is a conversation in which every answer has the weight 0")
    return [{key: value for key, value in message.items() if key != "weight"} for message in found], learned


def _message(message: Any, number: int) -> dict[str, Any]:
    given = _of_share(message) if isinstance(message, Mapping) and "role" not in message else message
    role = given.get("role") if isinstance(given, Mapping) else None
    if not isinstance(role, str) or role not in ROLES:
        raise InputError(f"has message {number} with the role {quoted(role)}, but it must be one of {', '.join(ROLES)}")
    found = {key: value for key, value in given.items() if value is not None}
    if "function_call" in found:  # the older way to write one call
        found["tool_calls"] = [{"type": "function", "function": found.pop("function_call")}]
    calls = found.get("tool_calls")
    if "content" not in found and not calls:
        raise InputError(f"has message {number} of the {role} without a content")
    found["content"] = _text(found.get("content", ""), number)
    if calls:
        if not isinstance(calls, list):
            raise _bad_call(number)
        found["tool_calls"] = [_call(call, number) for call in calls]
    return found


def _of_share(message: Mapping[str, Any]) -> dict[str, Any]:
    name = message.get("from")
    role = _SHARED.get(name, name) if isinstance(name, str) else None
    return {"role": role, "content": message.get("value"), "weight": message.get("weight")}


def _text(content: Any, number: int) -> str:
    """Content of a message as one text; parts of it may be texts only."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InputError(f"has message {number} with the content {quoted(content, 80)}, but it must be a text or parts")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", None) or not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            raise InputError(
                f"has message {number} with a part {quoted(part, 80)}; "
                'parts must be texts, {"type": "text", "text": ...}: images and sound are not read'
            )
        texts.append(part["text"])
    return "".join(texts)


def _call(call: Any, number: int) -> dict[str, Any]:
    """Tool call with its arguments as an object: as text, a template would write them in quotes once more."""
    if not isinstance(call, Mapping):
        raise _bad_call(number)
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise _bad_call(number)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise InputError(f"has message {number} with a call whose arguments are no valid JSON") from None
    return {**call, "function": {**function, "arguments": arguments}}


def _bad_call(number: int) -> InputError:
    return InputError(f"has message {number} with a tool call that has no function with a name")


def _is_learned(message: Mapping[str, Any], number: int) -> bool:
    weight = message.get("weight", 1)
    if weight not in (0, 1):
        raise InputError(f"has message {number} with the weight {quoted(weight, 40)}, but it must be 0 or 1")
    return message["role"] == "assistant" and weight == 1
