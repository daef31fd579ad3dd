"""Tools: what the template is told, forced calls of every format, calls in streams; with the official client."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import ValidationError

from braidlm.engine import Grammar
from braidlm.errors import InputError
from braidlm.server import Settings
from braidlm.server import tools as server_tools
from braidlm.server.requests import Tool
from braidlm.text.tool_calls import NAMES

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
    for arguments in ("{", "[1]", "5", '{"a": NaN}', '{"a":' * 500 + "1" + "}" * 500):
        call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
        with pytest.raises(openai.BadRequestError, match="the arguments of call 'a' are no valid JSON object"):
            client.chat.completions.create(model=NAME, messages=[*HELLO, {"role": "assistant", "tool_calls": [call]}])


def test_empty_arguments_of_a_call(client: openai.OpenAI, local: Local) -> None:
    """Oracle: the prompt with an empty object: clients send nothing for functions without parameters."""
    prompts = []
    for arguments in ("", " ", "{}"):
        call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
        messages = [*HELLO, {"role": "assistant", "tool_calls": [call]}]
        assert client.chat.completions.create(model=NAME, messages=messages, max_tokens=1).choices
        prompts.append(local.post("/tokenize", {"messages": messages}).json()["ids"])
    assert prompts[0] == prompts[1] == prompts[2]


@pytest.mark.parametrize("form", [name for name in NAMES if name != "auto"])
def test_schemas_that_clients_write(form: str) -> None:
    """Oracle: one sentence that says where; what is null counts as left out, whatever the format of a forced call."""
    wrong = {
        "properties": ([1], "properties must be an object of schemas"),
        "required": ({}, "must be a list of names"),
    }
    with serving(model(template=WITH_TOOLS), tool_format=form) as local:

        def asked(**schema: Any) -> Any:
            tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", **schema}}}
            body = {"messages": HELLO, "tools": [tool], "tool_choice": "required", "max_tokens": 100, "seed": 1}
            return local.post("/v1/chat/completions", body)

        closed = {"properties": None, "required": None, "additionalProperties": False}
        (choice,) = asked(**closed).json()["choices"]
        assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
        for key, (value, said) in wrong.items():
            error = asked(**{key: value}).json()["error"]
            assert error["param"] == "tools.0.function.parameters" and said in error["message"]
        error = asked(properties={"a": {"type": "nonsense"}}).json()["error"]
        assert error["message"].startswith("the tools' parameters cannot be followed: ")


def told_in_stream(client: openai.OpenAI, **asked: Any) -> tuple[str, list[tuple[str, str, str]], str, list[int]]:
    """What a stream adds up to: content, calls (id, name, arguments), the reason, and in which chunks calls came."""
    content, calls, places = "", {}, []
    for place, chunk in enumerate(client.chat.completions.create(**asked, stream=True)):
        (choice,) = chunk.choices
        content += choice.delta.content or ""
        for call in choice.delta.tool_calls or ():
            assert call.index == len(calls) and call.type == "function"
            calls[call.index] = (call.id, call.function.name, call.function.arguments)
            places.append(place)
    return content, list(calls.values()), choice.finish_reason, places


TEMPLATES = {
    "hermes": WITH_TOOLS,
    "mistral": WITH_TOOLS.replace("<tool_call>", "[TOOL_CALLS]"),
    "mistral with args": WITH_TOOLS.replace("<tool_call>", "[TOOL_CALLS][ARGS]"),
    "granite": WITH_TOOLS.replace("<tool_call>", "<|tool_call|>"),
    "llama": WITH_TOOLS.replace("<tool_call>", "<|python_tag|>"),
    "pythonic": WITH_TOOLS.replace("<tool_call>", "[func_name1("),
    "lfm2": WITH_TOOLS.replace("<tool_call>", "<|tool_call_start|>"),
    "nemotron": WITH_TOOLS.replace("<tool_call>", "<TOOLCALL>"),
    "qwen-xml": WITH_TOOLS.replace("<tool_call>", "<function="),
    "no sign": WITH_TOOLS.replace("<tool_call>", ""),
}
MARKS = (
    *("[TOOL_CALLS]", "[ARGS]", "<|tool_call|>", "<|tool_call_start|>", "<|tool_call_end|>"),
    *("<TOOLCALL>", "</TOOLCALL>"),
)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("control", [False, True], ids=["texts", "control tokens"])
def test_forced_calls_of_every_format(template: str, control: bool) -> None:
    """Oracle: the schema; stream and whole answer of one seed are the same; marks may be control tokens or texts.

    The call goes back as a message with its result, and an answer follows.
    """
    asked = {"model": NAME, "messages": HELLO, "tools": TOOLS, "max_tokens": 200, "seed": 3}
    with serving(model(template=template, control=MARKS if control else ())) as local:
        client = openai.OpenAI(base_url=f"{local.url}/v1", api_key="none", max_retries=0)
        (whole,) = client.chat.completions.create(**asked, tool_choice="required").choices
        content, calls, reason, _ = told_in_stream(client, **asked, tool_choice="required")
        (call,) = whole.message.tool_calls
        assert (whole.message.content, content) == (None, "")
        assert (whole.finish_reason, reason) == ("tool_calls", "tool_calls")
        assert [told[1:] for told in calls] == [(call.function.name, call.function.arguments)]
        arguments = json.loads(call.function.arguments)
        assert arguments["city"] in ("Rome", "Oslo") and isinstance(arguments["warm"], bool) and len(arguments) == 2
        result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        more = [*HELLO, whole.message.model_dump(exclude_none=True), result]
        assert client.chat.completions.create(**asked | {"messages": more, "max_tokens": 3}).choices


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has the model write exactly this text, by a rule of its own."""

    def script(text: str) -> None:
        rule = Grammar("lark", f"start: {json.dumps(text, ensure_ascii=False)}\n")
        monkeypatch.setattr(server_tools, "rule_for", lambda *_: rule)

    return script


def test_parallel_calls_in_a_stream(client: openai.OpenAI, writes: Callable[[str], None]) -> None:
    """Oracle: the text that is written: content around the calls, each call told before the text after it."""
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    writes(f"I look. {call}\n{call}\nThat may take a while, a long while.")
    asked = {"model": NAME, "messages": HELLO, "tools": TOOLS, "max_tokens": 400}
    content, calls, reason, places = told_in_stream(client, **asked)
    (whole,) = client.chat.completions.create(**asked).choices
    assert content == whole.message.content == "I look. That may take a while, a long while."
    assert [call[1:] for call in calls] == [("weather", '{"city": "Rome"}')] * 2
    assert [call.function.arguments for call in whole.message.tool_calls] == ['{"city": "Rome"}'] * 2
    assert reason == whole.finish_reason == "tool_calls"
    assert len({call[0] for call in calls}) == 2 and places[0] < places[1]
    (one,) = client.chat.completions.create(**asked, parallel_tool_calls=False).choices
    assert len(one.message.tool_calls) == 1
    assert len(told_in_stream(client, **asked, parallel_tool_calls=False)[1]) == 1


def test_a_call_that_was_cut_off(client: openai.OpenAI, writes: Callable[[str], None]) -> None:
    """Oracle: nothing is lost: the call's text is content, and the reason is the length."""
    call = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    writes(f'{call}{call[:-1]}")')
    asked = {"model": NAME, "messages": HELLO, "tools": TOOLS}
    (whole,) = client.chat.completions.create(**asked, max_tokens=len(call) + 24).choices
    assert len(whole.message.tool_calls) == 1
    assert whole.finish_reason == "length"
    assert whole.message.content and call.startswith(whole.message.content)


def test_a_format_by_name() -> None:
    """Oracle: the schema, in a format that the template does not tell of; the error for a name that is none."""
    with serving(model(template=WITH_TOOLS), tool_format="mistral") as local:
        client = openai.OpenAI(base_url=f"{local.url}/v1", api_key="none", max_retries=0)
        asked = {"model": NAME, "messages": HELLO, "tools": TOOLS, "tool_choice": "required", "max_tokens": 200}
        (choice,) = client.chat.completions.create(**asked, seed=1, logprobs=True).choices
        written = "".join(token.token for token in choice.logprobs.content)
        assert written.startswith('[TOOL_CALLS][{"name": ') and choice.message.tool_calls
    with pytest.raises(InputError, match="there is no tool format 'xml'; the formats are auto, granite"):
        Settings(name=NAME, tool_format="xml")


def test_calls_in_a_session(tmp_path: Path) -> None:
    """Oracle: the calls that the client was told, with the same ids, streamed or not; arguments as text."""
    with serving(model(template=WITH_TOOLS), sessions=tmp_path) as local:
        client = openai.OpenAI(base_url=f"{local.url}/v1", api_key="none", max_retries=0)
        local.post("/v1/sessions", {"id": "a"})
        asked = {"model": NAME, "tools": TOOLS, "tool_choice": "required", "max_tokens": 200}
        in_a = {"extra_body": {"session": "a"}}
        _, streamed, _, _ = told_in_stream(client, **asked, messages=HELLO, **in_a)
        result = {"role": "tool", "tool_call_id": streamed[0][0], "content": "sunny"}
        (whole,) = client.chat.completions.create(**asked, messages=[result], **in_a).choices
        kept = local.get("/v1/sessions/a").json()["messages"]
        told = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in kept[1]["tool_calls"]]
        assert told == streamed
        assert [call["id"] for call in kept[3]["tool_calls"]] == [call.id for call in whole.message.tool_calls]


def test_short_ids_where_the_template_wants_them() -> None:
    """Oracle: the words in templates of Mistral's models, which refuse other ids."""
    template = TEMPLATES["mistral"] + "{% if false %}{{ raise_exception('ids of length 9') }}{% endif %}"
    with serving(model(template=template)) as local:
        client = openai.OpenAI(base_url=f"{local.url}/v1", api_key="none", max_retries=0)
        asked = {"model": NAME, "messages": HELLO, "tools": TOOLS, "tool_choice": "required", "max_tokens": 200}
        (call,) = client.chat.completions.create(**asked).choices[0].message.tool_calls
        assert len(call.id) == 9 and call.id.isalnum()


def test_without_tools_a_call_is_text(client: openai.OpenAI, writes: Callable[[str], None]) -> None:
    """Oracle: the text itself."""
    call = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    writes(call)
    asked = {"model": NAME, "messages": HELLO, "max_tokens": 200}
    assert client.chat.completions.create(**asked).choices[0].message.content == call
    with pytest.raises(ValidationError):
        Tool.model_validate({"type": "function", "function": {"name": "no name"}})
