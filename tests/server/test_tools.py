"""Tools: what the template is told, forced calls, calls found in texts; with the official client."""

import json
from collections.abc import Iterator

import openai
import pytest
from pydantic import ValidationError

from braidlm.server.requests import Tool
from braidlm.server.tools import CallReader

from .local import NAME, WITH_TOOLS, Local, model, serving

HELLO = [{"role": "user", "content": "hello"}]


def function(name: str) -> dict[str, object]:
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}, "warm": {"type": "boolean"}},
        "required": ["city", "warm"],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": "Says.", "parameters": parameters}}


TOOLS = [function("weather"), function("travel")]


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with serving(model(template=WITH_TOOLS)) as made:
        yield made


@pytest.fixture
def client(local: Local) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{local.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_call(client: openai.OpenAI, stream: bool) -> None:
    """Oracle: the schema of the function that was named; the call goes back as a message, with its result."""
    choice = {"type": "function", "function": {"name": "travel"}}
    asked = {"model": NAME, "messages": HELLO, "tools": TOOLS, "tool_choice": choice, "max_tokens": 200, "seed": 1}
    if stream:
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
        (call,) = (call for chunk in chunks for call in chunk.delta.tool_calls or ())
        assert not any(chunk.delta.content for chunk in chunks)
        assert chunks[-1].finish_reason == "tool_calls"
    else:
        (reply,) = client.chat.completions.create(**asked).choices
        assert reply.finish_reason == "tool_calls" and reply.message.content is None
        (call,) = reply.message.tool_calls
    assert call.function.name == "travel"
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Rome", "Oslo") and isinstance(arguments["warm"], bool) and len(arguments) == 2
    made = {"id": call.id, "type": "function", "function": {"name": "travel", "arguments": call.function.arguments}}
    more = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    assert client.chat.completions.create(model=NAME, messages=more, tools=TOOLS, max_tokens=3).choices


def test_any_tool(client: openai.OpenAI) -> None:
    """Oracle: the names of the tools."""
    asked = {"model": NAME, "messages": HELLO, "tools": TOOLS, "tool_choice": "required", "max_tokens": 200}
    names = {
        client.chat.completions.create(**asked, seed=seed).choices[0].message.tool_calls[0].function.name
        for seed in range(12)
    }
    assert names == {"weather", "travel"}


def test_what_cannot_be(client: openai.OpenAI) -> None:
    """Oracle: the words of the errors."""
    asked = {"model": NAME, "messages": HELLO, "max_tokens": 3}
    wrong = {
        "none of the tools": {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "fly"}}},
        "there are no tools": {"tool_choice": "required"},
        "same name": {"tools": [function("a"), function("a")]},
        "cannot call tools": {"tools": TOOLS, "response_format": {"type": "json_object"}},
    }
    for words, more in wrong.items():
        with pytest.raises(openai.BadRequestError, match=words):
            client.chat.completions.create(**asked, **more)
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
    with pytest.raises(openai.BadRequestError, match="no valid JSON"):
        client.chat.completions.create(model=NAME, messages=[*HELLO, {"role": "assistant", "tool_calls": [call]}])


CALL = '{"name": "weather", "arguments": {"city": "Rome"}}'
WRITTEN = {
    "tags": (f"<tool_call>\n{CALL}\n</tool_call>", "", 1),
    "two, after words": (
        f"Let me see. <tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>",
        "Let me see. ",
        2,
    ),
    "no end": (f"<tool_call>{CALL}", "", 1),
    "bare": (CALL, "", 1),
    "parameters": (CALL.replace("arguments", "parameters"), "", 1),
    "a list after a marker": (f"[TOOL_CALLS] [{CALL}, {CALL}]", "", 2),
    "another marker": (f"<|tool_call|>[{CALL}]", "", 1),
    "no tool of ours": ('{"name": "fly", "arguments": {}}', '{"name": "fly", "arguments": {}}', 0),
    "a name that is none": ('{"name": ["weather"]}', '{"name": ["weather"]}', 0),
    "no JSON": ("<tool_call>weather</tool_call>", "<tool_call>weather</tool_call>", 0),
    "almost a tag": ("a <tool_cal and more", "a <tool_cal and more", 0),
    "words": ("It is warm.", "It is warm.", 0),
    "nothing": ("", "", 0),
}


@pytest.mark.parametrize(("text", "shown", "count"), WRITTEN.values(), ids=WRITTEN)
def test_calls_in_texts(text: str, shown: str, count: int) -> None:
    """Oracle: by hand; however the text is cut, nothing of a call is shown."""
    tools = [Tool.model_validate(tool) for tool in TOOLS]
    for size in (1, 3, 1000):
        reader = CallReader(tools)
        pieces = [reader.push(text[at : at + size]) for at in range(0, len(text), size)]
        rest, calls = reader.finish()
        assert "".join(pieces) + rest == shown
        assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Rome"}] * count
    assert len(CallReader(tools, parallel=False).finish()[1]) == 0
    reader = CallReader(tools, parallel=False)
    reader.push(text)
    assert len(reader.finish()[1]) == min(count, 1)


def test_without_tools_all_is_shown() -> None:
    """Oracle: the text itself, at once."""
    assert CallReader([]).push(CALL) == CALL
    with pytest.raises(ValidationError):
        Tool.model_validate({"type": "function", "function": {"name": "no name"}})
