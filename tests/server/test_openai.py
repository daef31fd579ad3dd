"""The official `openai` client against a real server on real weights."""

import json
import re
from pathlib import Path

import openai
import pytest

from .conftest import MODEL, Server, Start

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def test_models(server: Server) -> None:
    """Oracle: the name that was asked for."""
    assert [model.id for model in server.client.models.list()] == [MODEL]
    assert server.client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
        server.client.models.retrieve("gpt")


def test_the_documented_example(server: Server, capsys: pytest.CaptureFixture) -> None:
    """Oracle: the README's example runs, here against this server's port."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"## As a server\n.*?```python\n(.*?)```", readme, re.DOTALL)
    assert "http://127.0.0.1:8000" in code
    exec(code.replace("http://127.0.0.1:8000", server.url), {})  # our own text
    assert len(capsys.readouterr().out) > 20


def test_chat(server: Server) -> None:
    """Oracle: geography; and the usage's own sums."""
    reply = server.client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=20)
    assert reply.choices[0].message.content == "The capital of France is Paris."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    details = reply.usage.prompt_tokens_details.model_dump()
    parts = details["cached_tokens"] + details["recomputed_tokens"] + details["computed_tokens"]
    assert parts == reply.usage.prompt_tokens


def test_stream_is_the_whole_answer(server: Server) -> None:
    """Oracle: the same request without stream."""
    asked = {"model": MODEL, "messages": QUESTION, "seed": 7, "temperature": 0.8, "max_tokens": 30}
    whole = server.client.chat.completions.create(**asked)
    chunks = list(server.client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert sum(bool(text) for text in texts) > 3
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_completions(server: Server) -> None:
    """Oracle: a prompt alone, as text and as token ids, gives what it gives among others."""
    ids = server.post("/tokenize", {"text": "The sky is"}).json()["ids"]
    asked = {"model": MODEL, "temperature": 0, "max_tokens": 6}
    alone = server.client.completions.create(prompt="The sky is", **asked).choices[0].text
    assert alone
    assert server.client.completions.create(prompt=ids, **asked).choices[0].text == alone
    both = server.client.completions.create(prompt=["The sky is", "Once upon"], n=2, **asked)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.choices[0].text == both.choices[1].text == alone != both.choices[2].text
    pieces = ["", "", "", ""]
    for chunk in server.client.completions.create(prompt=["The sky is", "Once upon"], n=2, stream=True, **asked):
        pieces[chunk.choices[0].index] += chunk.choices[0].text
    assert pieces == [choice.text for choice in both.choices]
    assert server.post("/detokenize", {"ids": ids}).json()["text"] == "The sky is"


def test_logprobs(server: Server) -> None:
    """Oracle: a greedy answer's tokens are the most likely ones; their texts add up to the answer."""
    asked = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 5}
    choice = server.client.chat.completions.create(**asked, logprobs=True, top_logprobs=3).choices[0]
    assert choice.logprobs is not None and choice.logprobs.content is not None
    found = choice.logprobs.content
    assert "".join(token.token for token in found) == choice.message.content
    for token in found:
        assert token.bytes == list(token.token.encode())
        assert token.top_logprobs[0].token == token.token
        assert 0 >= token.top_logprobs[0].logprob == token.logprob >= token.top_logprobs[2].logprob
    chunks = server.client.chat.completions.create(**asked, logprobs=True, top_logprobs=3, stream=True)
    streamed = [t for c in chunks if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in found]
    legacy = server.client.completions.create(model=MODEL, prompt="The sky", logprobs=2, max_tokens=3, temperature=0)
    told = legacy.choices[0].logprobs
    assert told is not None and "".join(told.tokens) == legacy.choices[0].text
    assert [len(top) for top in told.top_logprobs] == [2, 2, 2]
    assert told.text_offset == [0, len(told.tokens[0]), len(told.tokens[0] + told.tokens[1])]


def test_several_answers_and_seeds(server: Server) -> None:
    """Oracle: the same seed gives the same answers, a copy's seed is the next one."""
    asked = {"model": MODEL, "messages": QUESTION, "temperature": 1.5, "max_tokens": 12}
    three = server.client.chat.completions.create(**asked, n=3, seed=3)
    texts = [choice.message.content for choice in three.choices]
    assert len(set(texts)) == 3
    assert server.client.chat.completions.create(**asked, seed=4).choices[0].message.content == texts[1]
    streamed = ["", "", ""]
    for chunk in server.client.chat.completions.create(**asked, n=3, seed=3, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_stop(server: Server) -> None:
    """Oracle: the answer without stop texts, cut before one."""
    asked = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 20}
    choice = server.client.chat.completions.create(**asked, stop=[" of", "Rome"]).choices[0]
    assert choice.message.content == "The capital"
    assert choice.finish_reason == "stop"


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


def test_structured_output(server: Server) -> None:
    """Oracle: the json module, and the schema's own words."""
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 200, "seed": 1}
    read = json.loads(server.client.chat.completions.create(**asked, response_format=form).choices[0].message.content)
    assert isinstance(read["city"], str) and isinstance(read["people"], int) and len(read) == 2
    three_words = server.client.chat.completions.create(
        **asked, extra_body={"response_format": {"type": "regex", "regex": "[a-z]{3} [a-z]{4} [a-z]{5}"}}
    )
    assert [len(word) for word in three_words.choices[0].message.content.split(" ")] == [3, 4, 5]
    with pytest.raises(openai.BadRequestError, match="cannot be followed"):
        server.client.chat.completions.create(
            **asked, extra_body={"response_format": {"type": "regex", "regex": "[a-z"}}
        )


def test_embeddings(server: Server) -> None:
    """Oracle: cosines, by hand: alike texts are closer than others; base64 and numbers are the same."""
    texts = ["The cat sat on the mat.", "A cat is sitting on a mat.", "Stock prices fell sharply on Monday."]
    made = server.client.embeddings.create(model=MODEL, input=texts)  # base64, unasked
    one, two, three = (item.embedding for item in made.data)
    plain = server.client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    assert [pytest.approx(item.embedding) for item in plain.data] == [one, two, three]
    assert sum(x * x for x in one) == pytest.approx(1, abs=1e-5)
    assert sum(x * y for x, y in zip(one, two)) > sum(x * y for x, y in zip(one, three)) + 0.02
    assert made.usage.prompt_tokens == sum(len(server.post("/tokenize", {"text": t}).json()["ids"]) for t in texts)


def test_what_is_not_supported_is_refused(server: Server) -> None:
    """Oracle: the words of each error; see `test_fields` for every field."""
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 1}
    with pytest.raises(openai.BadRequestError, match="no place for tools"):
        server.client.chat.completions.create(**asked, tools=[{"type": "function", "function": {"name": "f"}}])
    with pytest.raises(openai.BadRequestError) as caught:
        server.client.completions.create(model=MODEL, prompt="long " * 9000)
    assert caught.value.code == "context_length_exceeded"


def test_penalties_and_echo(server: Server) -> None:
    """Oracle: language: a strong penalty leaves no word twice, a ban none at all; and the prompt's own text."""
    ids = server.post("/tokenize", {"text": " the"}).json()["ids"]
    asked = {"model": MODEL, "prompt": "the sea, the sea, the sea,", "temperature": 0, "max_tokens": 12}
    free = server.client.completions.create(**asked).choices[0].text
    assert free.count(" the") > 1
    assert server.client.completions.create(**asked, presence_penalty=2, frequency_penalty=2).choices[0].text != free
    assert " the" not in server.client.completions.create(**asked, logit_bias={str(ids[0]): -100}).choices[0].text
    echoed = server.client.completions.create(**{**asked, "max_tokens": 0}, echo=True, logprobs=1).choices[0]
    assert echoed.text == asked["prompt"]
    assert echoed.logprobs is not None and "".join(echoed.logprobs.tokens) == asked["prompt"]
    # What was said before is expected to be said again.
    assert sum(echoed.logprobs.token_logprobs[4:]) > 2 * sum(echoed.logprobs.token_logprobs[1:4])


def test_documentation_needs_no_network(server: Server) -> None:
    """Oracle: the rule: whatever the page of the API loads comes from the server itself."""
    page = server.get("/docs").text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert len(loaded) >= 2
    for place in loaded:
        assert place.startswith(server.url)
        assert server.get(place.removeprefix(server.url)).status_code == 200
    assert "url: '/openapi.json'" in page


def test_keys(start: Start, chatty: Path, tmp_path: Path) -> None:
    """Oracle: the statuses of the API; each key sees its own sessions."""
    server = start("--api-key", "first", "--api-key", "second", "--rate-limit", "9", model=chatty, sessions=tmp_path)
    with pytest.raises(openai.AuthenticationError, match="API key"):
        server.client.models.list()
    one, two = (server.client.with_options(api_key=key) for key in ("first", "second"))
    assert one.models.list().data
    body = {"id": "mine", "messages": [{"role": "user", "content": "secret"}]}
    assert one.post("/sessions", body=body, cast_to=object)["id"] == "mine"
    assert one.get("/sessions", cast_to=object)["data"][0]["id"] == "mine"
    assert two.get("/sessions", cast_to=object)["data"] == []
    with pytest.raises(openai.NotFoundError):
        two.get("/sessions/mine", cast_to=object)
    statuses = [one.models.with_raw_response.list for _ in range(10)]
    with pytest.raises(openai.RateLimitError) as caught:
        [ask() for ask in statuses]
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 7
    assert two.models.list().data
    assert "secret" not in server.log.read_text()
    assert "first" not in server.log.read_text()
