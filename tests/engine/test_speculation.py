"""Speculative decoding: it changes when tokens come, and never which."""

from functools import cache
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import braidlm
from braidlm import LanguageModel
from braidlm.engine import Limits, Request, RequestHandle
from braidlm.engine.sequence import Sequence
from braidlm.engine.speculation import PromptLookup, Speculation
from braidlm.errors import InputError
from braidlm.generation.continuation import Continuation, Token
from braidlm.generation.sampling import Sampling
from braidlm.ops import native_loader
from braidlm.system.choices import MOST_SPECULATIVE_TOKENS
from tests.engine.asked import SMALL, alone, asked, made, prompt
from tests.families.tiny import TINY, tiny

native = pytest.mark.skipif(native_loader.why_not() is not None, reason="the extension is not built")
LOOPS = 40  # tokens after which a small random model repeats itself


def searched(seen: list[int], most: int) -> list[int]:
    """What followed the latest earlier appearance of the last three tokens, or else of the last two."""
    for size in (3, 2):
        for after in range(len(seen) - 1, size - 1, -1):
            if len(seen) >= size and seen[after - size : after] == seen[-size:]:
                return seen[after : after + most]
    return []


@given(st.lists(st.lists(st.integers(0, 2), max_size=8), max_size=8), st.integers(0, 5))
def test_lookup(parts: list[list[int]], most: int) -> None:
    """Oracle: a search through the whole text, each time that it has grown by a part."""
    seen: list[int] = []
    lookup = PromptLookup(seen)
    for part in parts:
        seen += part
        assert lookup.propose(most) == searched(seen, most)


def test_forced_tokens_are_drafted_first() -> None:
    """Oracle: by hand: forced tokens go before those looked up, each source learns for itself, none beyond the end."""

    class Forcing:
        forced_now: ClassVar[list[int]] = [7, 8, 9]

        def allowed(self) -> None:
            return None

        def push(self, token: int) -> None:
            pass

        def forced(self) -> list[int]:
            return list(self.forced_now)

        def finished(self) -> bool:
            return False

    rule = Forcing()
    request = Request(ids=(1, 2, 3, 1, 2, 3), sampling=Sampling(max_tokens=9))
    text = Continuation(request.ids, request.sampling, None, rule)
    sequence = Sequence(RequestHandle(request), 0, text)
    sequence.propose(2)
    assert sequence.draft == [7, 8]
    forced = sequence.source
    assert forced.acceptance_rate > 0.9
    sequence.source.learn([7, 8], [7, 5])
    rule.forced_now = []  # type: ignore[misc]
    sequence.propose(15)
    assert sequence.draft == [1, 2, 3]
    assert sequence.source is not forced
    assert sequence.source.acceptance_rate == 0.5
    for _ in range(8):
        text.step(np.zeros(10, np.float32), (), 100)
    rule.forced_now = [4]  # type: ignore[misc]
    sequence.propose(15)
    assert sequence.draft == []


def test_acceptance_is_learnt() -> None:
    """Oracle: by hand: draft tokens count until the first wrong one; the rate stays a likelihood."""
    lookup = PromptLookup([])
    before = lookup.acceptance_rate
    lookup.learn([1, 2, 3], [1])
    assert before < lookup.acceptance_rate <= 1
    better = lookup.acceptance_rate
    lookup.learn([1, 2, 3], [4, 2, 3])
    assert lookup.acceptance_rate < better
    for _ in range(100):
        lookup.learn([1, 2], [5, 6])
    assert 0 <= lookup.acceptance_rate < 0.01


@pytest.mark.parametrize(("cost", "pays"), [(0.05, True), (1.0, False)])
def test_it_is_used_where_it_pays(cost: float, pays: bool) -> None:
    """Oracle: by hand: half of the drafts are accepted, and a row more costs 5% of a pass, or as much as the first."""
    speculation, lengths = Speculation(MOST_SPECULATIVE_TOKENS), []
    for _ in range(60):
        lengths.append(speculation.draft_length([(0.5, MOST_SPECULATIVE_TOKENS)]))
        rows = 1 + lengths[-1]
        speculation.record_pass(rows, 1 + cost * (rows - 1))
    assert all(lengths[20:]) if pays else not any(lengths[20:])


def test_times_are_measured_again() -> None:
    """Oracle: by hand: what was slow once, while something else ran, is tried again after a while."""
    speculation = Speculation(MOST_SPECULATIVE_TOKENS)
    for rows, seconds in ((1, 1.0), *((1 + n, 100.0) for n in range(1, MOST_SPECULATIVE_TOKENS + 1))):
        speculation.record_pass(rows, seconds)
    found = []
    for _ in range(600):
        found.append(speculation.draft_length([(0.9, MOST_SPECULATIVE_TOKENS)]))
        speculation.record_pass(1 + found[-1], 1.0)
    assert not any(found[:100])
    assert any(found)


@pytest.fixture(params=["as it pays", "always", "mostly wrong"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Drafts that are run when the engine thinks so, or always; or always, and they are the prompt's beginning."""
    if request.param != "as it pays":
        monkeypatch.setattr(Speculation, "draft_length", lambda self, _: self.most)
    if request.param == "mostly wrong":
        monkeypatch.setattr(PromptLookup, "propose", lambda self, most: list(self._seen[: max(0, most)]))
    return request.param


def repeating(family: str) -> LanguageModel:
    return braidlm.build(tiny(family, 1), seed=1)


def various(model: LanguageModel) -> list[Request]:
    """Greedy and sampled requests, of texts that repeat and texts that do not."""
    text = prompt(model, 9) * 4
    return [
        asked(text, 60),
        asked(text, 60, temperature=0.3, seed=3, n=2),
        asked(prompt(model, 33), 25, temperature=1.0, seed=5),
        asked(text, 1),
        asked(text, 40, presence_penalty=0.4, frequency_penalty=0.02, logit_bias={text[0]: 1.5, text[1]: -100}),
        asked(text, 40, temperature=0.5, seed=9, frequency_penalty=-0.2, repetition_penalty=1.1),
    ]


@cache
def expected(family: str) -> list[list[list[int]]]:
    """What the naive loop generates for `various` requests, whatever is drafted."""
    model = repeating(family)
    return [alone(model, request) for request in various(model)]


@cache
def continued(family: str, text: tuple[int, ...]) -> list[int]:
    """What the naive loop generates greedily, whatever is drafted."""
    return alone(repeating(family), asked(text, LOOPS))[0]


@native
@pytest.mark.parametrize("family", TINY)
def test_the_same_tokens(family: str, mode: str) -> None:
    """Oracle: the naive loop, which drafts nothing; greedy and sampled, texts that repeat and texts that do not."""
    model = repeating(family)
    with model.engine(limits=SMALL) as engine:
        handles = [engine.submit(request) for request in various(model)]
        assert [made(handle) for handle in handles] == expected(family)
        stats = engine.stats
    assert 0 <= stats.accepted_tokens <= stats.draft_tokens
    if mode == "mostly wrong":
        assert stats.draft_tokens > 2 * stats.accepted_tokens


@native
@pytest.mark.parametrize("family", TINY)
def test_what_is_kept(family: str, mode: str) -> None:
    """Oracle: the naive loop on the longer text; by hand, that only new tokens are read in each turn."""
    model = repeating(family)
    text = prompt(model, 9) * 3
    with model.engine(limits=SMALL) as engine:
        for turn in range(3):
            handle = engine.submit(asked(text, LOOPS))
            (written,) = made(handle)
            assert written == continued(family, text)
            assert handle.usage is not None
            assert handle.usage[:2] == (0 if turn == 0 else len(text) - 4, 0)
            text = (*text, *written, *prompt(model, 3, turn))


@native
def test_drafts_are_accepted() -> None:
    """Oracle: a model whose text runs in a circle: nearly all drafts are accepted, and passes fewer than tokens."""
    model = repeating("llama")
    with model.engine(limits=Limits(parallel=2)) as engine:
        engine._scheduler.speculation.draft_length = lambda sequences: MOST_SPECULATIVE_TOKENS  # type: ignore[method-assign]
        (written,) = made(engine.submit(asked(prompt(model, 9), 400)))
        stats = engine.stats
    assert len(written) == 400
    assert stats.accepted_tokens > max(100, 0.8 * stats.draft_tokens)


def test_none_without_a_plan() -> None:
    """Oracle: the rule: only where several tokens give the bits of one after the other."""
    model = braidlm.build(tiny("mamba", 1), dtype="float64")
    request = asked(prompt(model, 9) * 4, 30)
    with model.engine(limits=SMALL) as engine:
        assert made(engine.submit(request)) == alone(model, request)
        assert engine.stats.draft_tokens == 0


def test_limits() -> None:
    """Oracle: the rule: 0 to 15 draft tokens."""
    assert Limits(speculative_tokens=0).speculative_tokens == 0
    with pytest.raises(InputError, match="speculative_tokens"):
        Limits(speculative_tokens=MOST_SPECULATIVE_TOKENS + 1)


@native
def test_switched_off() -> None:
    """Oracle: there are no draft tokens."""
    model = repeating("mamba2")
    with model.engine(limits=Limits(parallel=2, speculative_tokens=0)) as engine:
        made(engine.submit(asked(prompt(model, 9) * 4, 60)))
        assert engine.stats.draft_tokens == 0


@native
def test_ends_inside_drafts(mode: str) -> None:
    """Oracle: the naive loop; a stop text, an end token and the last token come in the midst of accepted ones."""
    model = repeating("granitemoehybrid")
    text = prompt(model, 9) * 4
    (written,) = alone(model, asked(text, LOOPS))
    with model.engine(limits=SMALL) as engine:
        engine._ends = (written[-3],)
        handle = engine.submit(asked(text, LOOPS))
        (found,) = made(handle)
        assert found == written[: written.index(written[-3]) + 1]
        next_ = asked((*text, *found, 1), 5)
        handle = engine.submit(next_)
        made(handle)
        assert handle.usage is not None
        assert handle.usage.cached == len(text) + len(found) - 1


@native
def test_a_failing_sequence_ends_its_request_alone(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the naive loop for the request beside it; the second of three sequences fails in a step with drafts."""
    model, follow, calls = repeating("granitemoehybrid"), Sequence.choose_tokens, []

    def failing(self: Sequence, logits: np.ndarray) -> list[Token]:
        calls.append(self.index)
        if self.index == 1 and calls.count(1) == 9:
            raise RuntimeError("broken")
        return follow(self, logits)

    monkeypatch.setattr(Sequence, "choose_tokens", failing)
    text = prompt(model, 9) * 4
    beside = asked(text, 60)
    with model.engine(limits=SMALL) as engine:
        handle, other = engine.submit(asked(text, 60, n=3)), engine.submit(beside)
        with pytest.raises(RuntimeError, match="broken"):
            made(handle)
        assert made(other) == alone(model, beside)
        assert made(engine.submit(beside)) == alone(model, beside)
        assert engine.stats.decode == 0
