"""Results that are computed once for all who ask at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from braidlm.engine.computed_once import ComputedOnce


def test_who_asks_at_the_same_time_waits() -> None:
    """Oracle: the calls of the function: one, although eight ask before it is done; then none."""
    calls: list[int] = []
    go_on = threading.Event()

    def compute(key: int) -> object:
        calls.append(key)
        go_on.wait(60)
        return object()

    results = ComputedOnce(compute, 2)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(results, 7) for _ in range(8)]
        go_on.set()
        found = {id(future.result()) for future in asked}
    assert len(found) == 1
    results(7)
    assert calls == [7]


def test_those_used_last_are_kept() -> None:
    """Oracle: by hand, for two places: 1 is used again, so 3 takes the place of 2."""
    calls: list[int] = []
    results = ComputedOnce(calls.append, 2)
    for key in (1, 2, 1, 3, 1, 2):
        results(key)
    assert calls == [1, 2, 3, 2]


def test_errors_are_not_kept() -> None:
    """Oracle: a function that fails the first time only."""
    calls: list[int] = []

    def compute(key: int) -> int:
        calls.append(key)
        if len(calls) == 1:
            raise ValueError("not now")
        return key

    results = ComputedOnce(compute, 2)
    with pytest.raises(ValueError, match="not now"):
        results(5)
    assert results(5) == 5
