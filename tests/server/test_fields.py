"""Every parameter of the official client, and fields that there are not."""

import inspect
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.resources.chat.completions import Completions as Chats
from openai.resources.completions import Completions

from .local import NAME, WITH_TOOLS, Local, model, serving

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
# What the client does itself.
CLIENT = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}

# Parameters with a meaning here, and a value that it has.
SERVED_IN_BOTH = {
    "model": NAME, "frequency_penalty": 0.5, "presence_penalty": 0.5, "logit_bias": {"5": 3}, "max_tokens": 3, "n": 2,
    "seed": 1, "stop": ["x"], "stream": False, "stream_options": {"include_usage": True}, "temperature": 0.5,
    "top_p": 0.5, "user": "me",
}  # fmt: skip
SERVED: dict[str, dict[str, Any]] = {
    "chat": SERVED_IN_BOTH
    | {
        "messages": HELLO, "logprobs": True, "max_completion_tokens": 3, "parallel_tool_calls": False,
        "response_format": {"type": "json_object"}, "tool_choice": "none", "tools": [TOOL], "top_logprobs": 2,
    },
    "completion": SERVED_IN_BOTH | {"prompt": "hello", "echo": True, "logprobs": 2, "best_of": 1},
}  # fmt: skip
# What some need beside them.
BESIDE = {"top_logprobs": {"logprobs": True}, "stream_options": {"stream": True}, "tool_choice": {"tools": [TOOL]}}
NO_EFFECT: dict[str, dict[str, Any]] = {
    "chat": {
        "metadata": {"run": "7"}, "modalities": ["text"], "prediction": {"type": "content", "content": "hello"},
        "prompt_cache_key": "k", "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
        "prompt_cache_retention": "24h", "reasoning_effort": "high", "safety_identifier": "someone",
        "service_tier": "flex", "store": True, "verbosity": "low",
    },
    "completion": {},
}  # fmt: skip
# What is refused, why, and the values that ask for nothing.
REFUSED: dict[str, dict[str, tuple[Any, str, tuple[Any, ...]]]] = {
    "chat": {
        "audio": ({"voice": "alloy", "format": "wav"}, "answers are text", (None,)),
        "functions": ([{"name": "f"}], "it is deprecated; use tools", ([], None)),
        "function_call": ({"name": "f"}, "it is deprecated; use tool_choice", ("none", "auto", None)),
        "moderation": ({"model": "omni"}, "nothing is moderated", (None,)),
        "web_search_options": ({}, "nothing is searched; give the model a tool for it", (None,)),
    },
    "completion": {"suffix": (" end", "text is written after a prompt, not between two texts", ("", None))},
}


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with serving(model(WITH_TOOLS)) as made:
        yield made


@pytest.fixture(scope="module")
def client(local: Local) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{local.url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, kind: str, **more: Any) -> Any:
    if kind == "chat":
        body = {"model": NAME, "messages": HELLO, "temperature": 0, "max_tokens": 4}
        body |= {} if "max_completion_tokens" not in more else {"max_tokens": None}
        return client.chat.completions.create(**{**body, **more})
    return client.completions.create(**{"model": NAME, "prompt": "hello", "temperature": 0, "max_tokens": 4, **more})


def text(reply: Any) -> str:
    choice = reply.choices[0]
    return choice.text if hasattr(choice, "text") else choice.message.content


@pytest.mark.parametrize(("kind", "create"), [("chat", Chats.create), ("completion", Completions.create)])
def test_every_parameter_is_known(kind: str, create: Any) -> None:
    """Oracle: the client's own signature: each of its parameters is in exactly one of the tables above."""
    tables = [set(SERVED[kind]), set(NO_EFFECT[kind]), set(REFUSED[kind])]
    assert sum(map(len, tables)) == len(set.union(*tables))
    assert set(inspect.signature(create).parameters) - CLIENT == set.union(*tables)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in SERVED.items() for name in table])
def test_what_is_served(client: openai.OpenAI, kind: str, name: str) -> None:
    """Oracle: an answer; what each parameter means is shown in the tests of what it is for."""
    reply = ask(client, kind, **{name: SERVED[kind][name]}, **BESIDE.get(name, {}))
    assert list(reply) if name == "stream_options" else reply.choices


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in NO_EFFECT.items() for name in table])
def test_what_has_no_effect(client: openai.OpenAI, kind: str, name: str) -> None:
    """Oracle: the greedy answer without the parameter."""
    plain = text(ask(client, kind))
    assert text(ask(client, kind, **{name: NO_EFFECT[kind][name]})) == plain
    assert text(ask(client, kind, extra_body={name: None})) == plain


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in REFUSED.items() for name in table])
def test_what_is_refused(client: openai.OpenAI, kind: str, name: str) -> None:
    """Oracle: one sentence that names the parameter and says why; values that ask for nothing are let through."""
    value, why, nothing = REFUSED[kind][name]
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, kind, **{name: value})
    assert caught.value.body["message"] == f"the field {name!r} is not supported here: {why}"
    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")
    for empty in nothing:
        assert text(ask(client, kind, extra_body={name: empty})) == text(ask(client, kind))


def refused(local: Local, path: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    reply = local.post(path, body)
    assert reply.status_code == 400
    return dict(reply.json()["error"])


@pytest.mark.parametrize(
    ("body", "name", "meant"),
    [
        ({"temprature": 1}, "temprature", "temperature"),
        ({"maxTokens": 1}, "maxTokens", "max_tokens"),
        ({"max-tokens": 1}, "max-tokens", "max_tokens"),
        ({"presense_penalty": 0}, "presense_penalty", "presence_penalty"),
        ({"beams": 3}, "beams", None),
        ({"": 1}, "", None),
        ({"stream_options": {"include_usge": True}}, "stream_options.include_usge", "stream_options.include_usage"),
        ({"messages": [*HELLO, {"role": "user", "contnt": "x"}]}, "messages.1.contnt", "messages.1.content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "txt": "a"}]}]},
            "messages.0.content.0.txt",
            "messages.0.content.0.text",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"nme": "a"}}},
            "response_format.json_schema.nme",
            "response_format.json_schema.name",
        ),
        ({"response_format": {"type": "regex", "regexp": "a"}}, "response_format.regexp", "response_format.regex"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "descripton": ""}}]},
            "tools.0.function.descripton",
            "tools.0.function.description",
        ),
        (
            {"tool_choice": {"type": "function", "function": {"nam": "f"}}},
            "tool_choice.function.nam",
            "tool_choice.function.name",
        ),
        ({"max_new_tokens": 3}, "max_new_tokens", "max_tokens"),
        ({"x" * 100_000: 1}, "x" * 200 + "...", None),
    ],
)
def test_a_field_that_there_is_not(local: Local, body: dict[str, Any], name: str, meant: str | None) -> None:
    """Oracle: the sentence, with the nearest name where one is near."""
    error = refused(local, **{"messages": HELLO, "max_tokens": 1, **body})
    also = f"; did you mean {meant!r}?" if meant else ""
    assert error["message"] == f"the field {name!r} is unknown{also}"
    assert error["code"] == "unknown_parameter"
    assert error["param"] == (name or None)


def test_null_counts_as_left_out(client: openai.OpenAI) -> None:
    """Oracle: the answer without the fields, whether they are known or not: some clients write all that they know."""
    nothing = {"beams": None, "temprature": None, "stop": None, "tools": None, "response_format": None, "n": None}
    assert text(ask(client, "chat", extra_body=nothing)) == text(ask(client, "chat"))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image_url", "image_url": {"url": "data:" + "A" * 50_000}}, "images"),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, "sounds"),
        ({"type": "file", "file": {"file_id": "f"}}, "files"),
        ({"type": "refusal", "refusal": "no"}, "refusals"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_what_is_no_text(local: Local, path: str, part: dict[str, Any], said: str) -> None:
    """Oracle: one sentence that says where, and names what is not served."""
    content = [{"type": "text", "text": "What is this?"}, part]
    error = refused(local, path, messages=[*HELLO, {"role": "user", "content": content}])
    assert error["message"] == f"messages.1.content.1: {said} are not supported here, messages are text"
    assert error["param"] == "messages.1.content.1"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"modalities": ["text", "audio"]}, 'modalities: answers are text; it must be ["text"]'),
        ({"logit_bias": {"a": 1}}, "logit_bias: 'a' is no token id"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5: Input should be less than or equal to 100"),
        ({"frequency_penalty": 2.5}, "frequency_penalty: Input should be less than or equal to 2"),
        ({"messages": [5]}, "messages.0: Input should be an object"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages.0.content: Input should be a valid string"),
        ({"stop": 5}, "stop: Input should be a valid string"),
        ({"stop": ["a", 5]}, "stop.1: Input should be a valid string"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"messages": [{"role": "user"}, {"role": "assistant", "refusal": "no"}]}, "the field 'messages.1.refusal' is "
         "not supported here: write it as content"),
        ({"stream_options": {"include_obfuscation": True}}, "the field 'stream_options.include_obfuscation' is not "
         "supported here: nothing is added to hide the length of texts"),
        ({"model": "m" * 100_000}, f"there is no model '{'m' * 200}...' here, but 'tiny'"),
    ],
)  # fmt: skip
def test_wrong_values(local: Local, body: dict[str, Any], said: str) -> None:
    """Oracle: the sentence; no name of a type among which there was a choice, and no quotation of 100 KB."""
    reply = local.post("/v1/chat/completions", {"messages": HELLO, "max_tokens": 1, **body})
    assert 400 <= reply.status_code < 500
    assert reply.json()["error"]["message"] == said
    assert len(reply.content) < 1000


def test_where_in_a_prompt(local: Local) -> None:
    """Oracle: the place, by hand: no name of a type, no number left out."""
    assert refused(local, "/v1/completions", prompt=[[1], [1, "a"]])["param"] == "prompt.1.1"
    assert refused(local, "/v1/completions", prompt={"a": 1})["param"] == "prompt"


def test_an_answer_is_a_message(client: openai.OpenAI, local: Local) -> None:
    """Oracle: the client's own message, appended as its documentation does, is the text that it holds."""
    answer = ask(client, "chat").choices[0].message
    more = [*HELLO, answer, {"role": "user", "content": "more"}]
    plain = [*HELLO, {"role": "assistant", "content": answer.content}, more[2]]
    assert text(ask(client, "chat", messages=more)) == text(ask(client, "chat", messages=plain))
    dumped: dict[str, Any] = {
        "role": "assistant", "content": answer.content, "refusal": None, "annotations": [], "audio": None,
        "function_call": None, "tool_calls": None,
    }  # fmt: skip
    assert text(ask(client, "chat", messages=[HELLO[0], dumped, more[2]])) == text(ask(client, "chat", messages=plain))
    ids = [local.post("/tokenize", {"messages": [HELLO[0], one, more[2]]}).json()["ids"] for one in (dumped, plain[1])]
    assert ids[0] == ids[1]
