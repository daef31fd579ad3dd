"""Which replica answers what: the rule alone, without Ray."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidlm.server.replicas.routing import SLACK, STEP, Routing, RoutingKey, home_of, routing_key_of

NAMES = st.sets(st.text("abcdef0123456789", min_size=8, max_size=8), min_size=2, max_size=8)
CHAT = "/v1/chat/completions"


def chat(*texts: str, **more: Any) -> RoutingKey:
    messages = [{"role": "user", "content": text} for text in texts]
    return routing_key_of(CHAT, json.dumps({"messages": messages, **more}).encode())


def idle(*names: str) -> dict[str, int]:
    return dict.fromkeys(names, 0)


@given(NAMES, st.lists(st.text(max_size=20), max_size=50))
def test_few_sessions_move(names: set[str], sessions: list[str]) -> None:
    """Oracle: the homes with one replica less: no session moves but those whose home it was."""
    *rest, gone = sorted(names)
    for session in sessions:
        home = home_of(session, names)
        assert home_of(session, rest) == home or home == gone
        assert home in names


def test_homes_are_spread() -> None:
    """Oracle: a quarter each, within five standard deviations."""
    homes = [home_of(f"session-{number}", "abcd") for number in range(4000)]
    for name in "abcd":
        assert abs(homes.count(name) - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5


def test_a_session_stays() -> None:
    """Oracle: who answered last, while it lives, however busy it is; when it is gone, the home among the others."""
    routing, routing_key = Routing(), RoutingKey("trip")
    home = home_of("trip", "ab")
    other = "b" if home == "a" else "a"
    assert routing.choose(routing_key, idle("a", "b")) == home
    assert routing.choose(routing_key, {home: 50, other: 0}) == home
    assert routing.choose(routing_key, idle("a", "b", "c", "d", "e")) == home
    assert routing.choose(routing_key, idle(other)) == other
    assert routing.choose(routing_key, idle("a", "b")) == other  # its states are there now


WORDS = st.lists(st.sampled_from(["a", "b", "c" * STEP, "d" * 3 * STEP]), max_size=5)


@settings(max_examples=300)
@given(st.lists(WORDS, max_size=12), WORDS)
def test_the_longest_beginning(before: list[list[str]], asked: list[str]) -> None:
    """Oracle: the definition: of the chats before that have most messages in common at the beginning, the last."""
    routing = Routing()
    readers = [routing.choose(chat(*texts), idle("a", "b", "c")) for texts in before]

    def common(texts: list[str]) -> int:
        same = 0
        while same < min(len(texts), len(asked)) and texts[same] == asked[same]:
            same += 1
        return same

    lengths = [common(texts) for texts in before]
    chosen = routing.choose(chat(*asked), idle("a", "b", "c"))
    if lengths and (longest := max(lengths)):
        last = max(number for number, length in enumerate(lengths) if length == longest)
        assert chosen == readers[last]


def test_busy_readers_are_spared() -> None:
    """Oracle: the rule: more than `SLACK` requests more than the idlest; and the idlest is the reader afterwards."""
    routing, routing_key = Routing(), chat("x" * 300)
    reader = routing.choose(routing_key, idle("a", "b"))
    other = "b" if reader == "a" else "a"
    assert routing.choose(routing_key, {reader: SLACK + 1, other: 1}) == reader
    assert routing.choose(routing_key, {reader: SLACK + 1, other: 0}) == other
    assert routing.choose(routing_key, idle("a", "b")) == other


def test_new_texts_are_spread() -> None:
    """Oracle: the idlest answers; of two that are as idle, the one that has not answered for longer."""
    routing = Routing()
    assert routing.choose(chat("one"), {"a": 2, "b": 1}) == "b"
    assert {routing.choose(chat(f"text {number}"), idle("a", "b", "c")) for number in range(3)} == {"a", "b", "c"}


def test_a_reader_that_is_gone() -> None:
    """Oracle: who has read the longest beginning among those that live; else the idlest."""
    routing = Routing()
    assert routing.choose(chat("system", "question"), {"a": 5, "b": 0}) == "b"
    assert routing.choose(chat("system"), {"a": 0, "b": 5}) == "a"
    assert routing.choose(chat("system", "question"), {"a": 1, "c": 0}) == "a"
    assert routing.choose(chat("system", "question"), {"c": 1, "d": 0}) == "d"


@pytest.mark.parametrize(
    ("path", "body", "session"),
    [
        ("/v1/sessions/trip", b"", "key.trip"),
        ("/v1/sessions/trip/fork", b'{"id": "other"}', "key.trip"),
        ("/v1/sessions", b'{"id": "trip"}', "key.trip"),
        ("/v1/sessions", b"{}", None),
        (CHAT, b'{"session": "trip", "messages": []}', "key.trip"),
        (CHAT, b'{"messages": [{"role": "user", "content": "a"}]}', None),
    ],
)
def test_whose_session(path: str, body: bytes, session: str | None) -> None:
    """Oracle: the API's own description of where a session is named."""
    assert routing_key_of(path, body, "key.").session == session


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=50), st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode)))
def test_any_body(body: bytes) -> None:
    """Oracle: what is no request asks for nothing, and breaks nothing."""
    routing_key = routing_key_of(CHAT, body)
    assert routing_key.session is None
    assert Routing().choose(routing_key, idle("a")) == "a"
    assert routing_key_of(CHAT, b"[" * 50_000) == RoutingKey()


def test_what_a_text_begins_with() -> None:
    """Oracle: prompts that begin alike share digests as far as they do; tools come before messages."""
    one, two = ("x" * 5 * STEP + end for end in ("one", "two"))
    for make in (
        lambda text: chat(text),
        lambda text: routing_key_of("/v1/completions", json.dumps({"prompt": text}).encode()),
    ):
        first, second = make(one).beginnings, make(two).beginnings
        same = sum(a == b for a, b in zip(first, second))
        assert 4 <= same < len(first) == len(second)
    assert not set(chat("a").beginnings) & set(chat("a", tools=[{"type": "function"}]).beginnings)
