"""Whole generations: seeds, batches, ends, stop texts, and states that go on."""

import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.decode.decode import Decoder
from braidlm.decode.slots import PlainSlots
from braidlm.engine.generate import generate
from braidlm.errors import ContextLengthError, InputError
from braidlm.generation.continuation import Token
from braidlm.generation.sampling import Sampling
from tests.families.tiny import TINY, tiny
from tests.generation.naively import naively
from tests.tolerances import RELATIVE_LOGITS


class Letters:
    """Each id as a letter of its own; with `late`, only when the next one has come."""

    def __init__(self, late: bool = False) -> None:
        self._late = late
        self._held = ""

    def push(self, token: int) -> str:
        self._held += letter(token)
        given = self._held[:-1] if self._late else self._held
        self._held = self._held[len(given) :]
        return given

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held


def letter(token: int) -> str:
    return chr(0x100 + token)


@cache
def model(family: str = "bamba", seed: int = 0) -> LanguageModel:
    return braidlm.build(tiny(family, seed))


def prompt(length: int, seed: int = 0) -> list[int]:
    return torch.randint(97, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


PROMPTS = [prompt(n, n) for n in (5, 1, 19)]
WARM = {"temperature": 1.0, "top_k": 30, "max_tokens": 12}


def rows_of(
    prompts: list[list[int]], samplings: list[Sampling], late: bool = False, **options: Any
) -> list[list[Token]]:
    """The tokens of each prompt, run as one batch."""
    made: list[list[Token]] = [[] for _ in prompts]
    network = model().network
    state, new_detokenizer = network.new_state(len(prompts)), partial(Letters, late)
    for row, token in generate(network, prompts, state, samplings, new_detokenizer=new_detokenizer, **options):
        made[row].append(token)
    return made


def ids(tokens: list[Token]) -> list[int]:
    return [token.id for token in tokens]


def text(tokens: list[Token]) -> str:
    return "".join(token.text for token in tokens)


def test_tokens_are_the_most_likely_ones() -> None:
    """Oracle: one forward pass over prompt and answer: argmax and log softmax at each position."""
    made = list(model().stream(PROMPTS[0], max_tokens=10))
    logits = model().forward(torch.tensor([PROMPTS[0] + ids(made)]))[0, len(PROMPTS[0]) - 1 : -1]
    assert ids(made) == logits.argmax(-1).tolist()
    expected = logits.log_softmax(-1).max(-1).values
    found = torch.tensor([token.logprob for token in made])
    assert (found - expected).abs().max() <= RELATIVE_LOGITS[torch.float32] * expected.abs().max()
    assert [token.finish for token in made] == [None] * 9 + ["length"]


def test_penalty_counts_prompt_and_answer() -> None:
    """Oracle: by definition: so strong a penalty lets no token come twice, nor one of the prompt."""
    made = model().generate(PROMPTS[2], max_tokens=30, repetition_penalty=1e6)
    assert len(made) == len(set(made)) == 30
    assert not set(made) & set(PROMPTS[2])


def test_penalties_and_biases_in_the_loop() -> None:
    """Oracle: each step by hand: the likeliest token after the counts of the answer's tokens and the biases."""
    options = {"presence_penalty": 0.3, "frequency_penalty": 0.25, "logit_bias": {11: 0.7, 12: -100.0}}
    made = model().generate(PROMPTS[2], max_tokens=20, **options)
    for count in range(20):
        logits = model().forward(torch.tensor([PROMPTS[2] + made[:count]]))[0, -1].double()
        for token in set(made[:count]):
            logits[token] -= 0.3 + 0.25 * made[:count].count(token)
        logits[11] += 0.7
        logits[12] -= 100
        assert made[count] == int(logits.argmax())
    with pytest.raises(InputError, match="logit_bias names the token id 97, but this model has the ids 0 to 96"):
        model().generate(PROMPTS[0], logit_bias={97: 1.0})


def test_a_seed_fixes_the_tokens() -> None:
    """Oracle: the same call again; another seed, or none, gives other tokens."""
    first = model().generate(PROMPTS[0], seed=3, **WARM)
    assert model().generate(PROMPTS[0], seed=3, **WARM) == first
    torch.manual_seed(17)
    assert model().generate(PROMPTS[0], seed=3, **WARM) == first
    assert model().generate(PROMPTS[0], seed=4, **WARM) != first
    assert model().generate(PROMPTS[0], **WARM) != model().generate(PROMPTS[0], **WARM)


@pytest.mark.parametrize("family", TINY)
def test_it_gives_what_the_naive_loop_gives(family: str) -> None:
    """Oracle: one pass of the model for each token: greedy and with a seed, the ids, and log probabilities within
    rounding; prompts that are run by decode steps and by passes.
    """
    for options in ({"max_tokens": 12}, {**WARM, "seed": 5, "repetition_penalty": 1.2}):
        for one in PROMPTS:
            found, expected = (
                list(model(family).stream(one, **options)),
                list(naively(model(family), one, Sampling(**options))),
            )
            assert ids(found) == ids(expected)
            assert [token.finish for token in found] == [token.finish for token in expected]
            apart = max(abs(a.logprob - b.logprob) for a, b in zip(found, expected))
            assert apart <= RELATIVE_LOGITS[torch.float32] * max(1, *(abs(token.logprob) for token in expected))


@pytest.mark.parametrize("family", TINY)
def test_a_batch_gives_what_each_prompt_gives(family: str) -> None:
    """Oracle: each prompt alone, greedy and with a seed."""
    for options in ({"max_tokens": 12}, {**WARM, "seed": 5}):
        together = model(family).generate(PROMPTS, **options)
        assert together == [model(family).generate(one, **options) for one in PROMPTS]


def test_rows_have_samplings_of_their_own() -> None:
    """Oracle: each row alone with its own length, seed and stops; a row that has finished disturbs no other."""
    samplings = [
        Sampling(max_tokens=15),
        Sampling(**WARM, seed=1),
        Sampling(temperature=0.5, max_tokens=3, seed=2),
    ]
    together = rows_of(PROMPTS, samplings)
    assert [len(row) for row in together] == [15, 12, 3]
    for one, sampling, found in zip(PROMPTS, samplings, together, strict=True):
        alone = rows_of([one], [sampling])[0]
        assert ids(found) == ids(alone)
        assert text(found) == text(alone) == "".join(map(letter, ids(found)))
        assert [token.finish for token in found] == [None] * (len(found) - 1) + ["length"]


def test_end_ids() -> None:
    """Oracle: the same answer without ends, up to the first of them; its text is not shown."""
    free = rows_of([PROMPTS[0]], [Sampling(**WARM, seed=0)])[0]
    for place in (0, 4, 11):
        ends = {free[place].id, 10**6}
        first = ids(free).index(free[place].id)
        found = rows_of([PROMPTS[0]], [Sampling(**WARM, seed=0)], ends=ends)[0]
        assert ids(found) == ids(free)[: first + 1]
        assert found[-1].finish == "stop"
        assert text(found) == "".join(map(letter, ids(free)[:first]))


def test_end_ids_of_a_checkpoint() -> None:
    """Oracle: the same answer without ends; what `Origin.ends` holds ends a stream."""
    free = model().generate(PROMPTS[0], max_tokens=8)
    ending = braidlm.build(tiny("bamba", 0))
    ending.origin = type(ending.origin)(ends=(free[5],))
    made = list(ending.stream(PROMPTS[0], max_tokens=8))
    assert ids(made) == free[: free.index(free[5]) + 1]
    assert made[-1].finish == "stop"


@pytest.mark.parametrize("late", [False, True])
def test_stop_texts_end_an_answer(late: bool) -> None:
    """Oracle: the same answer without stops: its text before the stop, and no token after the one that completed it."""
    sampling = {**WARM, "seed": 9}
    free = rows_of([PROMPTS[0]], [Sampling(**sampling)])[0]
    whole = text(free)
    for place, size in ((0, 1), (3, 1), (3, 3), (9, 2), (11, 1)):
        one = whole[place : place + size]
        found = rows_of([PROMPTS[0]], [Sampling(**sampling, stop=(one, "nothing"))], late)[0]
        end = whole.index(one) + size
        assert text(found) == whole[: whole.index(one)]
        assert ids(found) == ids(free)[: min(end + late, 12)]
        # A stop text that only comes with the last letter, held back until then, finds the answer finished.
        assert found[-1].finish == ("length" if late and end == 12 else "stop")


@pytest.mark.parametrize("late", [False, True])
def test_what_begins_like_a_stop_is_shown_in_the_end(late: bool) -> None:
    """Oracle: the same answer without stops, ended by its length and by an end id."""
    free = rows_of([PROMPTS[1]], [Sampling(**WARM, seed=1)])[0]
    whole = text(free)
    begins = Sampling(**WARM, seed=1, stop=(whole[-4:] + "!",))
    assert text(rows_of([PROMPTS[1]], [begins], late)[0]) == whole
    last = ids(free).index(free[-1].id)
    begins = Sampling(**WARM, seed=1, stop=(whole[max(0, last - 3) : last] + "!",))
    assert text(rows_of([PROMPTS[1]], [begins], late, ends=[free[-1].id])[0]) == whole[:last]


@pytest.mark.parametrize("family", TINY)
def test_a_state_goes_on(family: str) -> None:
    """Oracle: one longer prompt; the state has seen everything but the last token."""
    one, more = PROMPTS[0], PROMPTS[2]
    state = model(family).new_state()
    first = model(family).generate(one, state=state, max_tokens=6)
    assert state.lengths == (len(one) + 5,)
    second = model(family).generate([first[-1], *more], state=state, max_tokens=6)
    assert state.lengths == (len(one) + 6 + len(more) + 5,)
    assert second == model(family).generate([*one, *first, *more], max_tokens=6)


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("taken", [1, 5])
def test_a_closed_stream_leaves_a_usable_state(family: str, taken: int) -> None:
    """Oracle: the stream that was not closed."""
    whole = model(family).generate(PROMPTS[0], max_tokens=10)
    state = model(family).new_state()
    stream = model(family).stream(PROMPTS[0], state=state, max_tokens=10)
    made = [next(stream).id for _ in range(taken)]
    stream.close()
    assert state.lengths == (len(PROMPTS[0]) + taken - 1,)
    rest = model(family).generate([made[-1]], state=state, max_tokens=10 - taken)
    assert made + rest == whole


def test_a_stream_that_was_never_begun_leaves_the_state() -> None:
    """Oracle: a state that nothing has touched."""
    state = model().new_state()
    model().stream(PROMPTS[0], state=state).close()
    assert state.lengths == (0,)
    assert model().generate(PROMPTS[0], state=state, max_tokens=3) == model().generate(PROMPTS[0], max_tokens=3)


@pytest.mark.parametrize("family", TINY)
@torch.no_grad()
def test_prefill_in_chunks(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: each prompt in one pass; chunks of 7 tokens, prompts shorter and longer, and the tokens that follow."""
    network, prompts = model(family).network, [prompt(n, n) for n in (1, 7, 8, 23, 14)]
    expected = torch.stack([model(family).forward([one])[0][-1] for one in prompts])
    whole = model(family).generate(prompts, max_tokens=5)
    monkeypatch.setattr("braidlm.engine.generate.PREFILL_CHUNK", 7)
    state = network.new_state(len(prompts))
    found = torch.empty_like(expected)
    for row, token in generate(network, prompts, state, [Sampling(max_tokens=1, top_logprobs=20)] * len(prompts)):
        found[row] = expected[row].log_softmax(-1)
        for id_, logprob in token.top:
            found[row, id_] = logprob
    apart = (found - expected.log_softmax(-1)).abs().max()
    assert apart <= RELATIVE_LOGITS[torch.float32] * expected.abs().max()
    assert state.lengths == tuple(map(len, prompts))
    assert model(family).generate(prompts, max_tokens=5) == whole


@pytest.mark.parametrize("ops", ["reference", "auto"])
@pytest.mark.parametrize("calls", [0, 3])
@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, TimeoutError])  # of signals' handlers
def test_an_interrupt_reaches_the_caller(
    raised: type[BaseException], calls: int, ops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: by hand: an interrupt after a pass is raised as it came, after the tokens before it; no thread is left,
    and the state is as it was; the next call gives what it gives without.
    """
    language = LanguageModel(model().network, None, model().origin, ops=ops)
    expected, threads = language.generate(PROMPTS[2], max_tokens=6), threading.active_count()
    left = [calls]

    def interrupted(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            made = step(*args, **options)
            if left[0] < 0:
                raise raised
            return made

        return run

    state = language.new_state()
    stream = language.stream(PROMPTS[2], state=state, max_tokens=6)
    with monkeypatch.context() as patched:
        for kind, name in ((Decoder, "step"), (PlainSlots, "step")):
            patched.setattr(kind, name, interrupted(getattr(kind, name)))
        found = [next(stream).id for _ in range(1 + calls)]
        with pytest.raises(raised):
            next(stream)
    assert state.lengths == (0,)
    assert found == expected[: 1 + calls]
    assert threading.active_count() == threads
    assert language.generate(PROMPTS[2], max_tokens=6) == expected


def test_an_error_leaves_the_states_of_all_rows() -> None:
    """Oracle: states that nothing has touched: one row has ended before the other one fails."""
    state, text = model().new_state(2), iter(range(3))

    class Failing:
        def push(self, token: int) -> str:
            if next(text, None) is None:
                raise ValueError("no text")
            return ""

        def flush(self) -> str:
            return ""

    samplings = [Sampling(max_tokens=1), Sampling(max_tokens=5)]
    with pytest.raises(ValueError, match="no text"):
        list(generate(model().network, PROMPTS[:2], state, samplings, new_detokenizer=Failing))
    assert state.lengths == (0, 0)


def test_prompts_that_do_not_fit() -> None:
    """Oracle: refused before anything is run: the state is as it was."""
    state = model().new_state(2)
    sampling = [Sampling()] * 2
    with pytest.raises(InputError, match="empty"):
        next(generate(model().network, [[1], []], state, sampling))
    with pytest.raises(InputError, match=r"1 prompts.*2 rows"):
        next(generate(model().network, [[1]], state, sampling))
    with pytest.raises(ContextLengthError, match=r"4097.*4096"):
        next(generate(model().network, [[1], [1] * 4097], state, sampling))
    assert state.lengths == (0, 0)
