"""Log probabilities of a prompt's tokens, told by the engine."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from braidlm.engine import Limits, Request, RequestHandle, scheduler
from braidlm.engine.model_runner import ModelRunner, Part
from braidlm.errors import InputError
from tests.engine.asked import SMALL, alone, asked, made, prompt
from tests.quant.small import model_of
from tests.tolerances import RELATIVE_LOGITS

FAMILIES = ["mamba", "mamba2", "llama", "hymba", "stripedhyena"]


def scored(ids: Sequence[int], tokens: int = 5, top: int = 3, **options: object) -> Request:
    return replace(asked(ids, tokens, **options), prompt_logprobs=top)


def check(handle: RequestHandle, family: str) -> None:
    """Oracle: log softmax of the logits of one forward pass over the whole prompt, in float64."""
    ids = handle.request.ids
    with torch.no_grad():
        exact = model_of(family).forward([ids])[0].double().log_softmax(-1)[:-1]
    close = RELATIVE_LOGITS[torch.float32] * float(exact.abs().max())
    assert [choice.token for choice in handle.prompt_logprobs] == list(ids[1:])
    for row, choice in zip(exact, handle.prompt_logprobs, strict=True):
        assert abs(choice.logprob - float(row[choice.token])) <= close
        assert [logprob for _, logprob in choice.top] == sorted((value for _, value in choice.top), reverse=True)
        assert all(abs(value - float(row[token])) <= close for token, value in choice.top)
        assert len(choice.top) == handle.request.prompt_logprobs
        assert not choice.top or choice.top[0][1] >= float(row.max()) - close


@pytest.mark.parametrize("family", FAMILIES)
def test_all_of_the_prompt_is_scored(family: str) -> None:
    """Oracle: `check`; the tokens are those of the naive loop; and by hand, that all was run, though it was known."""
    model = model_of(family)
    text = prompt(model, 45)
    with model.engine(limits=SMALL) as running:
        before = asked(text)
        (first,) = made(running.submit(before))
        request = scored(text, n=2, temperature=0.8, seed=3)
        handle = running.submit(request)
        assert made(handle) == alone(model, asked(text, 5, n=2, temperature=0.8, seed=3))
        check(handle, family)
        assert handle.usage is not None
        assert handle.usage[:3] == (0, 0, 45)
        after = running.submit(asked((*text, *first[:-1], 1)))
        assert made(after) == alone(model, after.request)
        assert after.usage is not None
        assert after.usage[:3] == (45 + 11, 0, 1)


@pytest.mark.parametrize("family", ["mamba2", "llama"])
def test_what_is_scored_is_known_afterwards(family: str) -> None:
    """Oracle: the naive loop, and by hand, that only what is new is run; nothing was written after the prompt."""
    model = model_of(family)
    text = prompt(model, 45, 1)
    with model.engine(limits=SMALL) as running:
        handle = running.submit(replace(scored(text, top=0), generates=False))
        assert list(handle) == []
        check(handle, family)
        again = running.submit(asked((*text, 3)))
        assert made(again) == alone(model, again.request)
        assert again.usage is not None
        assert again.usage.cached >= 44
        assert running.stats[:3] == (0, 0, 0)


def test_one_token_has_no_score() -> None:
    """Oracle: by hand."""
    model = model_of("mamba2")
    with model.engine(limits=SMALL) as running:
        handle = running.submit(scored((5,)))
        assert made(handle) == alone(model, asked((5,), 5))
        assert handle.prompt_logprobs == []


def test_few_logits_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: `check`; no pass gives more logits than are allowed, whatever the chunks of other prompts."""
    model, read, passes = model_of("mamba2"), ModelRunner.prefill, []

    def counted(self: ModelRunner, parts: Sequence[Part], **options: object) -> object:
        passes.extend((len(part.ids), options["logits"]) for part in parts)
        return read(self, parts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelRunner, "prefill", counted)
    monkeypatch.setattr(scheduler, "LOGITS", 8 * model.spec.vocab)
    with model.engine(limits=Limits(parallel=1, prefill_chunk=32)) as running:
        handle = running.submit(scored(prompt(model, 50)))
        made(handle)
        check(handle, "mamba2")
        made(running.submit(asked(prompt(model, 50, 1))))
    assert passes[:7] == [(8, "all")] * 6 + [(2, "all")]
    assert max(length for length, logits in passes if logits != "all") == 32


def test_it_takes_no_other_number() -> None:
    """Oracle: the sentence."""
    with pytest.raises(InputError, match="prompt_logprobs is -1, but must be from 0 to 1000"):
        scored((1, 2), top=-1)
