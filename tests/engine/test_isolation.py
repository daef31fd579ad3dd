"""Requests that do not meet: salts of the cache, listeners that fail, and an engine that has been closed."""

import sys

import pytest

from braidlm.engine import Limits, Request, RequestHandle, StreamChunk
from braidlm.errors import BraidError, InputError
from braidlm.generation.sampling import Sampling
from tests.engine.asked import SMALL, asked, made, prompt
from tests.quant.small import model_of

FAMILIES = ["mamba2", "llama"]  # states that cannot be cut, and those that can


def salted(text: tuple[int, ...], salt: str) -> Request:
    return Request(ids=text, sampling=Sampling(max_tokens=6, temperature=1.0, seed=1), cache_salt=salt)


@pytest.mark.parametrize("family", FAMILIES)
def test_salts_share_nothing(family: str) -> None:
    """Oracle: usage and tokens of an engine that nobody else has asked; one's own texts are found again."""
    model, text = model_of(family), prompt(model_of(family), 40)
    with model.engine(limits=SMALL) as fresh:
        cold = fresh.submit(salted(text, "one"))
        expected = made(cold)
    with model.engine(limits=SMALL) as engine:
        for salt in ("", "two", "three"):
            made(engine.submit(salted(text, salt)))
            made(engine.submit(salted(text[:30], salt)))
        handle = engine.submit(salted(text, "one"))
        assert made(handle) == expected
        assert handle.usage == cold.usage
        assert handle.usage is not None and (handle.usage.cached, handle.usage.recomputed) == (0, 0)
        assert engine.has_snapshot(text, "one") != engine.has_snapshot(text, "never seen")
        again = engine.submit(salted(text, "one"))
        assert made(again) == expected
        assert again.usage is not None and again.usage.cached == 39


def test_salts_leave_nothing_behind() -> None:
    """Oracle: by hand: a text that is only looked up plants no tree."""
    model = model_of("llama")
    with model.engine(limits=SMALL) as engine:
        for number in range(20):
            assert not engine.has_snapshot([1, 2, 3], f"salt {number}")
        assert len(engine.cache._roots) == 0


@pytest.mark.parametrize("error", [ValueError, SystemExit])
@pytest.mark.parametrize("after", [1, 2, 3, 12])
def test_a_listener_that_raises_ends_its_request_alone(error: type[BaseException], after: int) -> None:
    """Oracle: tokens and log probabilities of the others in an engine without it; the error, told to its own request.

    `after` so many calls: within the prompt's last step, within writing, and where the request ends by itself.
    """
    model = model_of("bamba")
    requests = [asked(prompt(model, 20 + n, n), 12, temperature=1.0, seed=n) for n in range(3)]

    def told(handle: RequestHandle) -> list[tuple[int, float]]:
        return [(token.id, token.logprob) for _, token in handle]

    with model.engine(limits=SMALL) as engine:
        expected = [told(handle) for handle in [engine.submit(request) for request in requests]]
    calls = 0

    def fails() -> None:
        nonlocal calls
        calls += 1
        if calls > after:  # the first call is that of `listen` itself
            raise error("my own fault")

    with model.engine(limits=SMALL) as engine:
        others = [engine.submit(request) for request in requests[:2]]
        handle = engine.submit(asked(prompt(model, 30, 9), 12))
        handle.listen(fails)
        others.append(engine.submit(requests[2]))
        assert [told(other) for other in others] == expected
        handle.wait()
        assert engine.failure is None
        with pytest.raises((ValueError, BraidError), match="my own fault"):
            list(handle)
        assert calls == after + 1  # it is not called again
        assert told(engine.submit(requests[0])) == expected[0]
        assert engine.stats[:4] == (0, 0, 0, 0)


def test_a_listener_that_raises_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the text of an engine whose listener is quiet: it is whole; the log says what happened."""
    model = model_of("llama")
    request = asked(prompt(model, 20), 4)
    with model.engine(limits=SMALL) as engine:
        expected = made(engine.submit(request))
        handle = engine.submit(request)
        ends = [False]

        def fails() -> None:
            if handle._done.is_set():
                ends[0] = True
                raise RuntimeError("too late")

        handle.listen(fails)
        handle.wait()
        assert made(handle) == expected
        assert made(engine.submit(request)) == expected
    assert ends == [True]
    assert "too late" in caplog.text


def test_an_errand_that_exits_leaves_the_engine() -> None:
    """Oracle: what the caller is told, and that the engine goes on."""
    model = model_of("llama")
    with model.engine(limits=SMALL) as engine:
        with pytest.raises(SystemExit):
            engine.run(sys.exit)
        assert engine.failure is None
        assert made(engine.submit(asked([1, 2, 3], 2)))


def test_nothing_is_to_do_once_closed() -> None:
    """Oracle: by hand: requests that waited, read and wrote have ended; so has an errand."""
    model = model_of("mamba2")
    engine = model.engine(limits=Limits(parallel=2, snapshot_interval=8, prefill_chunk=16))
    writing = engine.submit(asked([1, 2, 3], 100_000, n=2))
    next(iter(writing))
    waiting = [engine.submit(asked([4, n], 5, n=2)) for n in range(3)]
    assert engine.stats[:3] == (3, 0, 1)
    engine.close()
    assert engine.stats[:4] == (0, 0, 0, 0)
    for handle in waiting:
        with pytest.raises(InputError, match="closed"):
            made(handle)
    assert all(isinstance(item, (StreamChunk, InputError)) for item in writing.arrived())
