"""The tree of known texts: what it finds, what it gives up, and what it counts."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidlm.engine import prefix_cache
from braidlm.engine.prefix_cache import PrefixCache
from tests.engine.states import BYTES, row

TEXTS = st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple)


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=12), st.lists(TEXTS, min_size=1, max_size=12))
def test_finds_the_longest_state(kept: list[tuple[int, ...]], asked: list[tuple[int, ...]]) -> None:
    """Oracle: a list of all texts, searched one by one."""
    cache = PrefixCache(1 << 30, 4)
    rows = {}
    for text in kept:
        rows[text] = row(len(text))
        cache.add_state(text, rows[text])
    assert cache.snapshots == len(rows)
    assert cache.nbytes == BYTES * len(rows)
    for text in asked:
        found = cache.match(text)
        begun = [other for other in rows if len(other) < len(text) and text[: len(other)] == other]
        longest = max(begun, key=len, default=())
        assert (found.cached, found.state) == (len(longest), rows.get(longest))
        same = [n for other in rows for n in range(1, len(text) + 1) if other[:n] == text[:n]]
        assert found.known == max(same, default=0)


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=20), st.integers(0, 5))
def test_keeps_to_its_memory(kept: list[tuple[int, ...]], most: int) -> None:
    """Oracle: the budget; and what is found is what was kept for that text."""
    cache = PrefixCache(most * BYTES + 1, 4)
    rows = {}
    for text in kept:
        rows[text] = row(len(text))
        cache.add_state(text, rows[text])
        assert cache.nbytes <= most * BYTES + 1
    assert cache.snapshots <= most
    for text in kept:
        found = cache.match((*text, 9))
        assert found.state is None or found.state is rows[text[: found.cached]]
        assert found.known == len(text)


def test_what_goes_first() -> None:
    """Oracle: by hand: a state near another one goes before one that stands alone; then it is told as dropped."""
    cache = PrefixCache(2 * BYTES, 4)
    text = tuple(range(100))
    for length in (50, 52, 100):
        cache.add_state(text[:length], row(length))
    assert cache.match((*text[:52], 999)).cached == 50
    assert cache.match((*text[:52], 999)).dropped
    assert cache.match((*text, 999)).cached == 100


def test_an_old_text_goes_before_a_new_one() -> None:
    """Oracle: by hand: of two alike, that longest unused."""
    cache = PrefixCache(2 * BYTES, 4)
    for first in (1, 2):
        cache.add_state((first,) * 30, row(30))
    cache.match((1,) * 31)
    cache.add_state((3,) * 30, row(30))
    assert [cache.match((first,) * 31).cached for first in (1, 2, 3)] == [30, 0, 30]


def test_the_end_of_a_text_stays() -> None:
    """Oracle: by hand: the end of a chat, two tokens behind another state, outlives what another chat keeps inside."""
    cache = PrefixCache(4 * BYTES, 4)
    chat, other = (1,) * 42, (2,) * 60
    for length in (40, 42):
        cache.add_state(chat[:length], row(length))
    for length in (15, 30, 45, 60):
        cache.add_state(other[:length], row(length))
    assert cache.match((*chat, 9)).cached == 42
    assert cache.match((*other, 9)).cached == 60


def test_states_that_can_be_cut() -> None:
    """Oracle: the caller's own cut; one state serves every place before it."""
    cache = PrefixCache(1 << 30, 4, truncate=lambda held, length: row(length))
    cache.add_state(tuple(range(10)), row(10))
    assert (cache.match(tuple(range(10))).cached, cache.match((0, 1, 2, 77, 78)).cached) == (9, 3)
    assert cache.match((5,)).cached == 0


def test_texts_without_states_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: texts longest unused go, with their trees, an eighth at once; what has a state stays."""
    monkeypatch.setattr(prefix_cache, "_MOST_TOKENS", 800)
    looked = []
    monkeypatch.setattr(prefix_cache, "_nodes", lambda node: (looked.append(node), *_nodes_of(node))[1:])
    cache = PrefixCache(BYTES, 4)  # room for one state
    roots = cache._roots
    for number in range(100):
        text = tuple(range(number, number + 10))
        cache.match(text, number % 50)
        cache.add_state(text, row(10), number % 50)
    assert cache._roots is roots
    assert cache._tokens <= 800
    assert cache._tokens == sum(len(node.edge) for root in roots.values() for node in _nodes_of(root))
    known = [number for number in range(100) if cache.match(tuple(range(number, number + 10)), number % 50).known == 10]
    assert known == list(range(known[0], 100))  # the youngest
    assert all(root.children for root in roots.values())
    assert len({id(root) for root in looked}) <= 50 + 2  # two or three looks at all trees, not one for each text
    assert cache.match((*range(99, 109), 0), 49).cached == 10


def _nodes_of(node: Any) -> list[Any]:
    return [node, *(inner for child in node.children.values() for inner in _nodes_of(child))]
