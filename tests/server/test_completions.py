"""Completions that begin with their prompts, and the log probabilities of those."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch

from braidlm import LanguageModel
from braidlm.engine import Limits
from braidlm.generation.choice import Choice
from braidlm.generation.continuation import Token
from braidlm.server.echo import scored

from .local import NAME, Local, model, serving

PROMPT = "The sky über all is <|im_start|> blue."
PROMPTS = ["one", "two three", PROMPT]


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with serving(model(), limits=Limits(parallel=8, snapshot_interval=8, prefill_chunk=16)) as made:
        yield made


@pytest.fixture(scope="module")
def client(local: Local) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{local.url}/v1", api_key="none", max_retries=0)


def exact(local: Local, ids: list[int]) -> torch.Tensor:
    """The log probabilities of one forward pass over all of `ids`, in float64: what follows each of them."""
    with torch.no_grad():
        return local.host.served.model.forward([ids])[0].double().log_softmax(-1)


def asked(**more: Any) -> dict[str, Any]:
    return {"model": NAME, "prompt": PROMPT, "temperature": 0, "max_tokens": 6, "logprobs": 2, "echo": True, **more}


def test_text_begins_with_the_prompt(client: openai.OpenAI) -> None:
    """Oracle: the answer without echo, after the prompt, letter for letter; token ids alike."""
    plain = client.completions.create(**asked(echo=False)).choices[0]
    found = client.completions.create(**asked(logprobs=None)).choices[0]
    assert found.text == PROMPT + plain.text
    assert found.logprobs is None
    ids = client.post("/../tokenize", body={"text": "blå, 日本"}, cast_to=object)["ids"]
    assert client.completions.create(**asked(prompt=ids, max_tokens=1)).choices[0].text.startswith("blå, 日本")


def test_log_probabilities_of_the_prompt(client: openai.OpenAI, local: Local) -> None:
    """Oracle: a forward pass over prompt and answer; offsets by hand: each token's text begins where it says."""
    ids = local.host.served.model.encode(PROMPT)
    told = client.completions.create(**asked()).choices[0]
    logprobs = told.logprobs
    assert logprobs is not None
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == len(ids) + 6
    assert logprobs.token_logprobs[0] is None
    assert logprobs.top_logprobs[0] is None
    rows = exact(local, ids)
    for place in range(1, len(ids)):
        expected = rows[place - 1]
        assert logprobs.token_logprobs[place] == pytest.approx(float(expected[ids[place]]), abs=1e-3)
        assert max(logprobs.top_logprobs[place].values()) == pytest.approx(float(expected.max()), abs=1e-3)
    begins = [*logprobs.text_offset, len(told.text)]
    assert begins == sorted(begins)
    assert begins[len(ids)] == len(PROMPT)
    for token, begin, end in zip(logprobs.tokens, begins, begins[1:]):
        # Bytes that are no character yet are shown with the token that completes it, or that does not.
        assert told.text[begin:end].endswith(token) or "\ufffd" in token or token.startswith("<|")


def test_only_the_prompt(client: openai.OpenAI, local: Local) -> None:
    """Oracle: the same prompt's log probabilities with an answer; nothing is written, and it is not counted."""
    whole = client.completions.create(**asked()).choices[0].logprobs
    alone = client.completions.create(**asked(max_tokens=0))
    count = len(local.host.served.model.encode(PROMPT))
    assert whole is not None and alone.choices[0].logprobs is not None
    assert alone.choices[0].text == PROMPT
    assert alone.choices[0].finish_reason == "length"
    assert alone.choices[0].logprobs.token_logprobs == whole.token_logprobs[:count]
    assert alone.usage is not None
    assert alone.usage.completion_tokens == 0
    without = client.completions.create(**asked(max_tokens=0, logprobs=None))
    assert without.choices[0].text == PROMPT


def test_log_probabilities_without_a_tokenizer() -> None:
    """Oracle: the sentence, before anything is written: tokens could not be named."""
    whole = model()
    with serving(LanguageModel(whole.network, None, whole.origin)) as local:
        for more in ({"logprobs": 1}, {"echo": True}):
            reply = local.post("/v1/completions", {"prompt": [1, 2], "max_tokens": 2, "stream": True, **more})
            assert reply.status_code == 400
            assert reply.json()["error"]["message"] == "this model has no tokenizer; give and take token ids"
        assert local.post("/v1/completions", {"prompt": [1, 2], "max_tokens": 2}).status_code == 200


def test_a_prompt_that_was_read_in_part() -> None:
    """Oracle: by hand: of a request that is stopped while its prompt is read, what was read has log probabilities."""
    tokens = [Token(number, str(number), 0.0, None) for number in range(5)]
    told = scored(tokens, [Choice(1, -0.5, ()), Choice(2, -0.25, ((2, -0.25),))])
    assert [(token.text, token.logprob) for token in told] == [("0", 0.0), ("1", -0.5), ("2", -0.25)]
    assert scored(tokens, []) == tokens[:1]


def test_scoring_as_lm_eval_does(client: openai.OpenAI, local: Local) -> None:
    """Oracle: sums over a forward pass, and whether the continuation is the greedy one.

    lm-eval sends token ids of contexts and continuations with echo, logprobs 1 and one token to write; it sums
    `token_logprobs[len(context):-1]` and compares each of them with the largest of `top_logprobs`.
    """
    language = local.host.served.model
    context = language.encode("The sky is")
    greedy = list(language.stream(context, max_tokens=5))
    for continuation, follows in (([token.id for token in greedy], True), (language.encode(" red"), False)):
        ids = [*context, *continuation]
        logprobs = client.completions.create(**asked(prompt=[ids], max_tokens=1, logprobs=1)).choices[0].logprobs
        assert logprobs is not None
        told, tops = logprobs.token_logprobs[len(context) : -1], logprobs.top_logprobs[len(context) : -1]
        rows = exact(local, ids)
        expected = sum(float(rows[place - 1][ids[place]]) for place in range(len(context), len(ids)))
        assert sum(told) == pytest.approx(expected, abs=1e-3)
        assert all(value == max(top.values()) for value, top in zip(told, tops, strict=True)) == follows


@pytest.mark.parametrize("tokens", [0, 6])
@pytest.mark.parametrize("logprobs", [None, 0, 2])
def test_several_prompts_streamed(client: openai.OpenAI, tokens: int, logprobs: int | None) -> None:
    """Oracle: each prompt alone and whole; pieces of a stream add up to it, log probabilities included."""
    body = asked(prompt=PROMPTS, n=2, max_tokens=tokens, logprobs=logprobs, temperature=0.9, seed=2)
    whole = client.completions.create(**body)
    texts = [""] * 6
    told: list[list[Any]] = [[] for _ in texts]
    for chunk in client.completions.create(**body, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] += choice.text
        if choice.logprobs is not None:
            parts = choice.logprobs
            told[choice.index] += zip(parts.tokens, parts.token_logprobs, parts.text_offset, parts.top_logprobs)
    for index, choice in enumerate(whole.choices):
        assert choice.index == index
        assert choice.text.startswith(PROMPTS[index // 2])
        assert texts[index] == choice.text
        if logprobs is not None:
            parts = choice.logprobs
            assert parts is not None
            expected = zip(parts.tokens, parts.token_logprobs, parts.text_offset, parts.top_logprobs)
            assert json.dumps(told[index]) == json.dumps(list(expected))
    alone = client.completions.create(**{**body, "prompt": PROMPTS[1]}).choices
    assert [choice.text for choice in alone] == [choice.text for choice in whole.choices[2:4]]


@pytest.mark.parametrize(
    ("more", "field", "said"),
    [
        ({"echo": False, "max_tokens": 0}, "max_tokens", "max_tokens is 0, which needs echo; it must be at least 1"),
        ({"best_of": 3}, "best_of", "best_of is 3, but n is 1: all that is written is given"),
        ({"suffix": "end"}, "suffix", "the field 'suffix' is not supported here: text is written after a prompt, not "
         "between two texts"),
        ({"logit_bias": {"100000": 1}}, None, "logit_bias names the token id 100000, but this model has the ids 0 to"),
    ],
)  # fmt: skip
def test_what_no_completion_can_be(client: openai.OpenAI, more: dict[str, Any], field: str | None, said: str) -> None:
    """Oracle: the field and the sentence; what asks for nothing is let through."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**asked(**more))
    assert caught.value.param == field
    assert said in str(caught.value)
    assert client.completions.create(**asked(best_of=1, suffix="", max_tokens=1)).choices


def test_penalties_and_biases(client: openai.OpenAI, local: Local) -> None:
    """Oracle: `stream` of the model alone with the same sampling; and by hand, that a forced token comes."""
    language = local.host.served.model
    ids = language.encode(PROMPT)
    free = [token.id for token in language.stream(ids, max_tokens=12)]
    for more in (
        {"presence_penalty": 2, "frequency_penalty": 1.5},
        {"frequency_penalty": -2},
        {"logit_bias": {str(free[0]): -100}},
        {"logit_bias": {"65": 100}},
    ):
        options: dict[str, Any] = dict(more)
        if "logit_bias" in more:
            options["logit_bias"] = {int(token): bias for token, bias in more["logit_bias"].items()}
        expected = [token.text for token in language.stream(ids, max_tokens=12, **options)]
        found = client.completions.create(**asked(echo=False, max_tokens=12, extra_body=None, **more)).choices[0]
        assert found.text == "".join(expected)
    forced = client.completions.create(**asked(echo=False, logit_bias={"65": 100})).choices[0]
    assert forced.text == language.tokenizer.decode([65] * 6)  # type: ignore[union-attr]
