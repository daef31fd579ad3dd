"""Requests alone, together, repeated, cancelled and failing; the naive loop is the oracle of every token."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Sequence

import pytest
import torch

import braidlm
from braidlm import LanguageModel
from braidlm.decode.decode import Decoder
from braidlm.decode.slots import PlainSlots
from braidlm.engine import Engine, Limits, QueueFullError, RequestHandle, StreamChunk
from braidlm.engine.model_runner import ModelRunner, Part
from braidlm.engine.runner import Outcome, Runner
from braidlm.engine.step import Step
from braidlm.errors import ContextLengthError, InputError
from braidlm.ops import native_loader
from braidlm.state.kv import Page
from tests.engine.asked import SMALL, alone, asked, made, prompt
from tests.families.tiny import TINY, tiny
from tests.quant.small import model_of


@pytest.mark.parametrize("family", TINY)
def test_together_as_alone(family: str) -> None:
    """Oracle: each request by the naive loop; lengths, seeds and numbers of sequences mixed, more than fit at once."""
    model = model_of(family)
    requests = [
        asked(prompt(model, length, length), tokens, temperature=heat, seed=length, n=copies)
        for length, tokens, heat, copies in (
            (1, 9, 0.0, 1),
            (16, 5, 1.0, 3),
            (17, 1, 0.0, 1),
            (40, 12, 0.7, 2),
            (3, 20, 1.0, 1),
            (33, 2, 0.0, 4),
        )
    ]
    with model.engine(limits=SMALL) as engine:
        handles = [engine.submit(request) for request in requests]
        assert [made(handle) for handle in handles] == [alone(model, request) for request in requests]


@pytest.mark.parametrize("family", TINY)
def test_turns_are_not_read_again(family: str) -> None:
    """Oracle: the naive loop on the whole text; and by hand, which tokens are new."""
    model = model_of(family)
    text = prompt(model, 30)
    with model.engine(limits=SMALL) as engine:
        for turn in range(4):
            request = asked(text)
            handle = engine.submit(request)
            (written,) = made(handle)
            assert written == alone(model, request)[0]
            assert handle.usage is not None
            # The last token of an answer was given, but not run.
            expected = (0, 0, 30) if turn == 0 else (len(text) - 8, 0, 8)
            assert handle.usage[:3] == expected, turn
            text = (*text, *written, *prompt(model, 7, seed=turn))


@pytest.mark.parametrize("family", TINY)
def test_an_edit_recomputes_few_tokens(family: str) -> None:
    """Oracle: the naive loop; at most `snapshot_interval` tokens seen before are run again, none at a boundary."""
    model = model_of(family)
    text = prompt(model, 61)
    with model.engine(limits=SMALL) as engine:
        made(engine.submit(asked(text, message_boundaries=(13, 29))))
        for at in (13, 29, 37, 44, 60, 61):
            edited = asked((*text[:at], *prompt(model, 9, seed=at)))
            handle = engine.submit(edited)
            assert made(handle) == alone(model, edited)
            assert handle.usage is not None
            cached, recomputed, computed, _ = handle.usage
            assert cached + recomputed + computed == len(edited.ids)
            assert recomputed <= (0 if at in (13, 29, 60) else SMALL.snapshot_interval)
            assert computed <= 9


def test_same_prompt_again() -> None:
    """Oracle: the first answer; only the last token of the prompt is run, whose scores are needed."""
    model = model_of("mamba2")
    request = asked(prompt(model, 50), temperature=1.0, seed=3)
    with model.engine(limits=SMALL) as engine:
        first, handle = made(engine.submit(request)), engine.submit(request)
        assert made(handle) == first
        assert handle.usage is not None
        assert handle.usage[:3] == (49, 0, 1)


def test_without_memory_for_states() -> None:
    """Oracle: the naive loop; nothing is kept, and usage says so."""
    model = model_of("mamba2")
    request = asked(prompt(model, 50))
    with model.engine(limits=Limits(parallel=1, cache_memory=0)) as engine:
        for _ in range(2):
            handle = engine.submit(request)
            assert made(handle) == alone(model, request)
            assert handle.usage is not None
            assert handle.usage.cached == 0
        assert engine.cache.nbytes == 0


def test_little_memory_for_states() -> None:
    """Oracle: the budget; a prompt whose snapshots were dropped is recomputed, and the reason is given."""
    model = model_of("mamba2")
    state = model.spec.state_bytes(0)
    texts = [prompt(model, 60, seed) for seed in range(6)]
    with model.engine(
        limits=Limits(parallel=1, snapshot_interval=8, prefill_chunk=16, cache_memory=3 * state)
    ) as engine:
        for text in texts:
            made(engine.submit(asked(text)))
            assert engine.cache.nbytes <= 3 * state
        handle = engine.submit(asked(texts[0]))
        assert made(handle) == alone(model, asked(texts[0]))
        assert handle.usage is not None
        assert handle.usage.recomputed > 0
        assert "dropped for memory" in handle.usage.why


def test_deterministic_bits() -> None:
    """Oracle: log probabilities of a cold run, to the bit, whatever is kept and whatever runs beside."""
    model = braidlm.build(tiny("hymba", 1), seed=1)
    model = LanguageModel(model.network, None, model.origin, deterministic=True)
    text = prompt(model, 40)

    def logprobs(handle: RequestHandle) -> list[float]:
        return [piece.token.logprob for piece in handle]

    with model.engine(limits=SMALL) as engine:
        cold = logprobs(engine.submit(asked(text)))
        others = [engine.submit(asked(prompt(model, 20 + n, n))) for n in range(3)]
        warm = engine.submit(asked(text))
        assert logprobs(warm) == cold
        assert warm.usage is not None
        assert warm.usage.cached == 39
        for handle in others:
            made(handle)


@pytest.mark.skipif(native_loader.why_not() is not None, reason="the extension is not built")
@pytest.mark.parametrize("family", TINY)
def test_short_prompts_need_no_pass(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the naive loop; by hand, that prompts are read by steps, and which states are kept inside them."""
    model, read = model_of(family), ModelRunner.prefill
    passes: list[int] = []

    def counted(self: ModelRunner, parts: Sequence[Part], **options: object) -> object:
        passes.extend(len(part.ids) for part in parts)
        return read(self, parts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelRunner, "prefill", counted)
    text = prompt(model, 8, 1)
    requests = [
        asked(text, message_boundaries=(3, 5)),
        asked((*text[:3], *prompt(model, 4, 2)), temperature=1.0, seed=1),
        asked((*text[:5], *prompt(model, 2, 3)), 1, message_boundaries=(7,)),
        asked(prompt(model, 1, 4)),
        asked(text),
    ]
    with model.engine(limits=SMALL) as engine:
        found = []
        for request in requests:
            handle = engine.submit(request)
            assert made(handle) == alone(model, request)
            assert handle.usage is not None
            found.append(handle.usage.cached)
        together = [engine.submit(request) for request in requests]
        assert [made(handle) for handle in together] == [alone(model, request) for request in requests]
    assert found == [0, 3, 5, 0, 7]
    assert not passes


def test_listening_in_an_event_loop() -> None:
    """Oracle: the naive loop; every piece arrives, then the end, and nothing waits for the engine's thread."""
    model = model_of("mamba2")
    request = asked(prompt(model, 20))

    async def heard(handle: RequestHandle) -> list[int]:
        loop, more, found = asyncio.get_running_loop(), asyncio.Event(), []
        handle.listen(lambda: loop.call_soon_threadsafe(more.set))
        while True:
            await more.wait()
            more.clear()
            for piece in handle.arrived():
                if not isinstance(piece, StreamChunk):
                    assert piece is None
                    return found
                found.append(piece.token.id)

    with model.engine(limits=SMALL) as engine:
        assert [asyncio.run(heard(engine.submit(request)))] == alone(model, request)


def test_cancelling() -> None:
    """Oracle: the other request's tokens; what the cancelled one had read is known afterwards."""
    model = model_of("bamba")
    long, other = asked(prompt(model, 64), 10_000), asked(prompt(model, 20, 1))
    with model.engine(limits=SMALL) as engine:
        handle = engine.submit(long)
        pieces = iter(handle)
        next(pieces)
        beside = engine.submit(other)
        handle.cancel()
        assert made(beside) == alone(model, other)
        assert handle.wait(60)
        assert len(list(pieces)) < 10_000
        again = engine.submit(asked(long.ids, 1))
        made(again)
        assert again.usage is not None
        assert again.usage.cached == 63


def test_a_full_queue_and_what_can_never_run() -> None:
    """Oracle: the errors' kinds and words."""
    model = model_of("mamba")
    ids = prompt(model, 8)
    with model.engine(limits=Limits(parallel=1, max_queue=2, memory=model.spec.state_bytes(100))) as engine:
        running = engine.submit(asked(ids, 50_000))
        next(iter(running))
        queued = [engine.submit(asked(ids, 1)) for _ in range(2)]
        with pytest.raises(QueueFullError, match="2 requests are waiting already"):
            engine.submit(asked(ids))
        running.cancel()
        assert [len(made(handle)[0]) for handle in queued] == [1, 1]
        for request, message in (
            (asked(ids, n=2), "at most 1 sequences"),
            (asked((*ids, model.spec.vocab)), "out of range"),
        ):
            with pytest.raises(InputError, match=message):
                engine.submit(request)
    llama = braidlm.build(tiny("llama", 0), seed=1)
    with llama.engine(limits=Limits(memory=llama.spec.state_bytes(10))) as engine:
        with pytest.raises(InputError, match="bytes of state"):
            engine.submit(asked(prompt(llama, 8), 40))
        with pytest.raises(ContextLengthError):
            engine.submit(asked((0,) * ((llama.spec.max_positions or 0) + 1)))


def test_one_failure_leaves_the_others() -> None:
    """Oracle: the naive loop for the others; the failing request gets its own error, and the engine goes on."""
    model = model_of("mamba2")

    def run(ids: torch.Tensor, *more: object, **options: object) -> object:
        if 7 in ids.tolist():
            raise RuntimeError("a fault")
        return model.network(ids, *more, **options)

    good = asked([1, 2, 3])
    with Engine(model.network, lambda: model.new_state(1), run=run, limits=SMALL) as engine:  # type: ignore[arg-type]
        handles = [engine.submit(request) for request in (good, asked([7] * 60), good)]
        assert made(handles[0]) == made(handles[2]) == alone(model, good)
        with pytest.raises(RuntimeError, match="a fault"):
            made(handles[1])
        assert made(engine.submit(good)) == alone(model, good)


@pytest.mark.parametrize("ops", ["reference", "auto"])
@pytest.mark.parametrize("family", ["mamba2", "llama", "hymba"])
def test_a_failing_step_ends_those_at_fault(family: str, ops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the naive loop for the others, whose step one text breaks with an id that the model does not have."""
    model = model_of(family)
    model.ops = ops
    # Long enough that pages are begun, and like enough to themselves that there are draft tokens.
    good = [asked(prompt(model, 9, seed) * 13, 40, temperature=0.5, seed=seed) for seed in range(2)]
    expected = [alone(model, request) for request in good]
    bad = asked(prompt(model, 5), temperature=5.0, seed=5, n=2)
    used = {*good[0].ids, *good[1].ids, *expected[0][0], *expected[1][0], *bad.ids}
    broken = next(token for token in alone(model, bad)[0][:-1] if token not in used)

    def breaking(step: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda self, ids, *more, **options: step(self, ids.masked_fill(ids == broken, 1 << 20), *more, **options)

    for kind in (Decoder, PlainSlots):
        monkeypatch.setattr(kind, "step", breaking(kind.step))
    with model.engine(limits=SMALL) as engine:
        for _ in range(2):
            handles = [engine.submit(request) for request in (good[0], bad, good[1])]
            assert [made(handles[0]), made(handles[2])] == expected
            with pytest.raises((ValueError, IndexError), match=r"out of (range|bounds)"):
                made(handles[1])
        assert engine.stats.decode == 0 and engine.failure is None


def test_changed_weights_are_noticed() -> None:
    """Oracle: the naive loop on the new weights."""
    model = model_of("mamba2")
    request = asked(prompt(model, 40))
    with model.engine(limits=SMALL) as engine:
        before = made(engine.submit(request))
        with torch.no_grad():
            model.network.embed.weight.mul_(-1.5)
        assert made(engine.submit(request)) == alone(model, request) != before


def test_many_threads_and_closing() -> None:
    """Oracle: the naive loop; after closing, what waits and what comes get an error."""
    model = model_of("mamba2")
    requests = [asked(prompt(model, 5 + n, n), temperature=1.0, seed=n) for n in range(12)]
    found: dict[int, list[list[int]]] = {}
    engine = model.engine(limits=SMALL)

    def client(number: int) -> None:
        found[number] = made(engine.submit(requests[number]))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(len(requests))] == [alone(model, request) for request in requests]
    running = engine.submit(asked([1], 100_000))
    next(iter(running))
    engine.close()
    with pytest.raises(InputError, match="closed"):
        made(running)
    with pytest.raises(InputError, match="closed"):
        engine.submit(asked([1]))


def test_ended_texts_hold_no_pages() -> None:
    """Oracle: by hand: with nothing kept for later, pages of keys and values live as long as their texts."""
    model = model_of("llama")

    def pages() -> int:
        gc.collect()
        return sum(type(found) is Page for found in gc.get_objects())

    with model.engine(limits=Limits(parallel=3, cache_memory=0)) as engine:
        before = engine.run(pages)
        handles = [engine.submit(asked(prompt(model, 40, seed), 5, n=seed)) for seed in (1, 2)]
        for handle in handles:
            made(handle)
            handle.wait()
        assert engine.run(pages) == before


def test_a_first_token_does_not_wait_for_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the order of a step: where a pass runs the whole prompt, its token is there before others decode."""
    model, arrived = model_of("llama"), []
    without_snapshots = Limits(parallel=2, cache_memory=0)
    engine = Engine(model.network, model.new_state, limits=without_snapshots, own_thread=False)
    engine.submit(asked(prompt(model, 9), 20))
    engine.step()
    second, decode = engine.submit(asked(prompt(model, 12))), Runner.run_decodes

    def watched(runner: Runner, step: Step) -> Outcome:
        if step.prefills:
            arrived.extend((len(step.decodes), len(list(second.arrived()))))
        return decode(runner, step)

    monkeypatch.setattr(Runner, "run_decodes", watched)
    while not arrived:
        engine.step()
    assert arrived == [1, 1]
    engine.close()


def test_work_of_an_engine_without_a_thread() -> None:
    """Oracle: its own result: who steps an engine runs its work, and waits for nobody."""
    model = model_of("llama")
    engine = Engine(model.network, model.new_state, own_thread=False)
    assert engine.run(lambda: 7) == 7
    engine.close()


def test_freed_memory_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: while there is work, by the engine's thread; once when there was none for a while."""
    given: list[str] = []
    monkeypatch.setattr("braidlm.engine.worker.RELEASE_MEMORY_S", 0.0)
    monkeypatch.setattr("braidlm.engine.engine.give_back", lambda: given.append(threading.current_thread().name))

    def settled() -> int:
        for _ in range(1000):
            before = len(given)
            time.sleep(0.05)
            if before and len(given) == before:
                break
        return len(given)

    model = braidlm.build(tiny("mamba2", 3))
    with model.engine(limits=SMALL) as engine:
        assert settled() == 1
        made(engine.submit(asked(prompt(model, 40), tokens=5)))
        assert settled() > 5
    assert threading.current_thread().name not in given
