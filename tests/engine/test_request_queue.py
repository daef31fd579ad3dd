"""The queue of requests, and the sharing of time between prefill and decode."""

import pytest

from braidlm.engine.prefill_throttle import PrefillThrottle
from braidlm.engine.request import QueueFullError
from braidlm.engine.request_queue import RequestQueue


def taken(waiting: RequestQueue[str]) -> list[str]:
    found = []
    while (job := waiting.pop_if(lambda job: True)) is not None:
        found.append(job)
    return found


def test_clients_get_equal_shares() -> None:
    """Oracle: by hand: whoever was given the fewest tokens comes next."""
    waiting: RequestQueue[str] = RequestQueue(10)
    for number in range(4):
        waiting.add(f"a{number}", "a", 10)
    waiting.add("b0", "b", 25)
    waiting.add("b1", "b", 1)
    assert taken(waiting) == ["a0", "b0", "a1", "a2", "b1", "a3"]


def test_absence_earns_nothing() -> None:
    """Oracle: by hand: who comes late does not catch up on what others had before."""
    waiting: RequestQueue[str] = RequestQueue(10)
    for number in range(3):
        waiting.add(f"a{number}", "a", 100)
    assert waiting.pop_if(lambda job: True) == "a0"
    assert waiting.pop_if(lambda job: True) == "a1"
    for number in range(3):
        waiting.add(f"b{number}", "b", 100)
    waiting.add("a3", "a", 100)
    assert taken(waiting) == ["a2", "b0", "a3", "b1", "b2"]


def test_only_who_counts_is_remembered() -> None:
    """Oracle: by hand: who was given more than those that wait still stands behind them; nobody else is remembered."""
    waiting: RequestQueue[str] = RequestQueue(4)
    for number in range(1000):
        waiting.add(f"x{number}", f"client {number}", 7)
        assert waiting.pop_if(lambda job: True) == f"x{number}"
    assert len(waiting._given) == 0
    waiting.add("b0", "b", 1)
    for number in range(1000):  # each newcomer stands level with b, and is taken behind it or before it
        waiting.add(f"x{number}", f"client {number}", 100)
        waiting.add("b1", "b", 1)
        waiting.pop_if(lambda job: True)
        waiting.pop_if(lambda job: True)
        assert len(waiting._given) <= 4 + len(waiting._queues)
    taken(waiting)
    assert len(waiting._given) == 0


def test_debts_last_while_others_wait() -> None:
    """Oracle: by hand: one large request at a time earns no more than its tokens' share beside small ones that wait."""
    waiting: RequestQueue[str] = RequestQueue(20)
    for number in range(10):
        waiting.add(f"small{number}", "patient", 10)
    waiting.add("large", "hasty", 50)
    order = []
    while len(waiting):
        job = waiting.pop_if(lambda job: True)
        assert job is not None
        order.append(job)
        if job == "large" and order.count("large") < 2:
            waiting.add("large", "hasty", 50)
    assert order.index("large") == 1
    assert order[2:6] == ["small1", "small2", "small3", "small4"]
    assert order.count("large") == 2


def test_a_bound_and_removal() -> None:
    """Oracle: the bound; a job that does not fit holds its place."""
    waiting: RequestQueue[str] = RequestQueue(2)
    waiting.add("large", "a", 1)
    waiting.add("small", "a", 1)
    with pytest.raises(QueueFullError, match="2 requests are waiting"):
        waiting.add("more", "b", 1)
    assert waiting.pop_if(lambda job: job != "large") is None
    assert waiting.remove_if(lambda job: job == "large") == ["large"]
    assert taken(waiting) == ["small"]
    assert len(waiting) == 0


def test_removal_while_another_thread_cancels() -> None:
    """Oracle: every item is returned or still waits, though the answer about it changes after it was given."""
    for answers in ([False, True], [True, False]):
        waiting: RequestQueue[str] = RequestQueue(4)
        asked = {name: iter(answers) for name in "abc"}
        for name in asked:
            waiting.add(name, "client", 1)
        gone = waiting.remove_if(lambda name, asked=asked: name != "b" and next(asked[name]))
        assert sorted([*gone, *taken(waiting)]) == ["a", "b", "c"]
        assert gone == (["a", "c"] if answers[0] else [])


def test_writing_gets_somewhat_more_time_than_it_waited() -> None:
    """Oracle: by hand, four thirds of it."""
    throttle = PrefillThrottle()
    assert throttle.may_prefill(True)
    throttle.prefilled(0.9, True)
    assert not throttle.may_prefill(True)
    assert throttle.may_prefill(False)
    throttle.decoded(0.6)
    assert not throttle.may_prefill(True)
    throttle.decoded(0.5)
    assert not throttle.may_prefill(True)
    throttle.decoded(0.2)
    assert throttle.may_prefill(True)
    throttle.did_both(0.9, True)
    throttle.decoded(0.8)
    assert not throttle.may_prefill(True)
    throttle.decoded(0.2)
    assert throttle.may_prefill(True)
