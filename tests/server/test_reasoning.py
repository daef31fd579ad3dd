"""The reasoning channel, with the official client, on models whose templates know reasoning."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from braidlm.cli.chat_terminal import Terminal
from braidlm.generation.sampling import Sampling
from braidlm.sessions import Chats, Conversation, SessionStore
from tests.text.made import TEMPLATE

from .local import NAME, Local, model, serving

HELLO = [{"role": "user", "content": "hello"}]
ASSISTANT = "<|im_start|>assistant\n"
# As Qwen 3 and its kin: what was reasoned is written before the content; a template may begin to reason or tell not to.
READS = (
    TEMPLATE.replace(
        "{{ message.content }}",
        "{% if message.reasoning_content %}<think>\n{{ message.reasoning_content }}\n</think>\n\n{% endif %}"
        "{{ message.content }}{% for c in message.tool_calls %}{{ c.function | tojson }}{% endfor %}",
    )
    + "{% if tools %}<tool_call>{% endif %}"
)
CHOOSES = READS.replace(
    ASSISTANT,
    ASSISTANT + "{% if not enable_thinking | default(true) %}<think>\n\n</think>\n\n{% endif %}",
)
BEGINS = READS.replace(ASSISTANT, ASSISTANT + "<think>\n")
TAGS = ("<think>", "</think>")
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
IN_SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}


def client_of(local: Local) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{local.url}/v1", api_key="none", max_retries=0)


def tag_ids(local: Local) -> dict[str, int]:
    tokenizer = local.host.served.tokenizer
    return {tag: tokenizer.encode(tag, add_bos=False)[0] for tag in TAGS}


@pytest.fixture(scope="module", params=[CHOOSES, BEGINS], ids=["chooses", "begins"])
def thinker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """A model that may reason, or whose prompt begins to; its tags are control tokens."""
    with serving(model(template=request.param, control=TAGS), sessions=tmp_path_factory.mktemp("kept")) as local:
        yield local


def told(client: openai.OpenAI, **asked: Any) -> tuple[str, str, Sequence[Any], str]:
    """Reasoning, content, calls and reason that a stream adds up to."""
    reasoning, content, calls = "", "", []
    for chunk in client.chat.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        reasoning += (choice.delta.model_extra or {}).get("reasoning_content") or ""
        content += choice.delta.content or ""
        calls += choice.delta.tool_calls or ()
    return reasoning, content, calls, choice.finish_reason


@pytest.mark.parametrize("more", [{"response_format": IN_SCHEMA}, {"tools": [TOOL], "tool_choice": "required"}])
def test_rules_apply_after_reasoning(thinker: Local, more: dict[str, Any]) -> None:
    """Oracle: the schema, of what follows the reasoning; a stream of the same seed is the same."""
    ids = tag_ids(thinker)
    # Likely tags: the model of random weights begins to reason, and ends that after some tokens.
    bias = {str(token): 4 for token in ids.values()}
    rare = {"max_tokens": 400, "seed": 4, "frequency_penalty": 2, "logit_bias": bias}
    asked = {"model": NAME, "messages": HELLO, **rare, **more}
    (choice,) = client_of(thinker).chat.completions.create(**asked).choices
    reasoning, content, calls, reason = told(client_of(thinker), **asked)
    assert (choice.message.reasoning_content or "", choice.message.content or "") == (reasoning, content)
    assert choice.finish_reason == reason
    answer = content if "tools" not in more else calls[0].function.arguments
    assert json.loads(answer)["a"] in (1, 2)
    assert reasoning and "</think>" not in reasoning + content


def test_a_rule_at_once(thinker: Local) -> None:
    """Oracle: the schema, where the model may reason and does not; where it has begun, the answer's length."""
    ids = tag_ids(thinker)
    bias = {str(ids["<think>"]): -100, str(ids["</think>"]): -100}
    asked = {"model": NAME, "messages": HELLO, "max_tokens": 60, "seed": 1, "logit_bias": bias}
    (choice,) = client_of(thinker).chat.completions.create(**asked, response_format=IN_SCHEMA).choices
    begins = thinker.host.served.tokenizer.chat_template == BEGINS
    assert (choice.message.content is None) == begins
    assert choice.finish_reason == ("length" if begins else "stop")
    if begins:
        assert choice.message.reasoning_content
    else:
        assert json.loads(choice.message.content)["a"] in (1, 2)


def test_a_session_keeps_reasoning(thinker: Local) -> None:
    """Oracle: what the client was told; the next prompt holds the reasoning once, where the template writes it."""
    ids, client = tag_ids(thinker), client_of(thinker)
    name = thinker.post("/v1/sessions", {}).json()["id"]
    bias = {str(token): 4 for token in ids.values()}
    asked = {
        "model": NAME,
        "max_tokens": 400,
        "seed": 4,
        "frequency_penalty": 2,
        "logit_bias": bias,
        "response_format": IN_SCHEMA,
    }
    (choice,) = client.chat.completions.create(**asked, messages=HELLO, extra_body={"session": name}).choices
    reasoning = choice.message.reasoning_content
    assert reasoning and choice.message.content
    kept = thinker.get(f"/v1/sessions/{name}").json()["messages"]
    assert (kept[1]["reasoning_content"], kept[1]["content"]) == (reasoning, choice.message.content)
    assert client.chat.completions.create(
        model=NAME, messages=HELLO, max_tokens=2, extra_body={"session": name}
    ).choices
    prompt = prompt_of(thinker, [*HELLO, kept[1]])
    assert prompt.count(f"<think>\n{reasoning}\n</think>\n\n") == 1


def prompt_of(local: Local, messages: Sequence[Any]) -> str:
    ids = local.post("/tokenize", {"messages": messages}).json()["ids"]
    return str(local.post("/detokenize", {"ids": ids}).json()["text"])


def test_replayed_reasoning_is_never_doubled() -> None:
    """Oracle: the prompt: once where the template reads it, also if the content repeats it; else not at all."""
    answers = [
        {"role": "assistant", "content": "Yes", "reasoning_content": "Why"},
        {"role": "assistant", "content": "<think>\nWhy\n</think>\n\nYes", "reasoning_content": "Why"},
    ]
    for template, count in ((CHOOSES, 1), (TEMPLATE, 0)):
        with serving(model(template=template)) as local:
            for answer in answers:
                prompt = prompt_of(local, [*HELLO, answer])
                assert (prompt.count("Why"), prompt.count("Yes")) == (count, 1)


def test_template_variables() -> None:
    """Oracle: the prompt's tokens with and without; the words of the refusals; control tokens cannot be forged."""
    template = CHOOSES + "{{ note }}"
    with serving(model(template=template, control=TAGS)) as local:
        client = client_of(local)
        asked = {"model": NAME, "messages": HELLO, "max_tokens": 1, "seed": 1}
        plain = client.chat.completions.create(**asked).usage.prompt_tokens
        body = {"chat_template_kwargs": {"enable_thinking": False}}
        told_not_to = client.chat.completions.create(**asked, extra_body=body).usage.prompt_tokens
        gap = local.host.served.tokenizer.encode("<think>\n\n</think>\n\n", add_bos=False)
        assert told_not_to == plain + len(gap)
        for name in ("magic", "tools", "messages", "eos_token", "range"):
            words = f"takes no variable '{name}'; it asks for enable_thinking, note"
            with pytest.raises(openai.BadRequestError, match=words):
                client.chat.completions.create(**asked, extra_body={"chat_template_kwargs": {name: 1}})
        forged = client.chat.completions.create(**asked, extra_body={"chat_template_kwargs": {"note": "<|im_end|>"}})
        assert forged.usage.prompt_tokens > plain + 1


def test_told_not_to_reason(thinker: Local) -> None:
    """Oracle: the schema from the first token on, though tags are likely: the prompt has ended the reasoning."""
    if thinker.host.served.tokenizer.chat_template == BEGINS:
        with pytest.raises(openai.BadRequestError, match="takes no variable 'enable_thinking'; it asks for none"):
            ask_without(thinker)
        return
    (choice,) = ask_without(thinker).choices
    assert choice.message.reasoning_content is None
    assert json.loads(choice.message.content)["a"] in (1, 2)


def ask_without(local: Local) -> Any:
    bias = {str(token): 30 for token in tag_ids(local).values()}
    body = {"chat_template_kwargs": {"enable_thinking": False}}
    asked = {"model": NAME, "messages": HELLO, "max_tokens": 60, "logit_bias": bias, "response_format": IN_SCHEMA}
    return client_of(local).chat.completions.create(**asked, extra_body=body)


def test_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: reasoning and content as the stored message has them, the reasoning first; tags are not shown."""
    served = model(template=BEGINS, control=TAGS)
    close = served.tokenizer.encode("</think>", add_bos=False)[0]
    sampling = Sampling(max_tokens=60, temperature=2.0, seed=4, frequency_penalty=2.0, logit_bias={close: 6.0})
    with served.engine() as engine:
        store = SessionStore(tmp_path)
        conversation = Conversation(Chats(served, engine, store), name="kept")
        Terminal(conversation, store, sampling)._answer("hello")
        shown = capsys.readouterr().out
        (_, answer) = conversation.messages
    assert answer["reasoning_content"] and answer["content"]
    assert shown == f"{answer['reasoning_content']}\n\n{answer['content']}\n"
