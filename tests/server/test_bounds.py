"""Bounds on what clients send: header, body, time, number of connections and of everything in a request."""

import json
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidlm.server import bodies, run
from braidlm.server.bodies import JsonBounds
from braidlm.server.connections import Bounds
from braidlm.server.errors import RefusedError

from .local import Local, model, serving, until

HELLO = [{"role": "user", "content": "hello"}]
ANSWER = {"messages": HELLO, "max_tokens": 3, "seed": 1}
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ENDLESS = {"prompt": "a", "max_tokens": 90_000, "stream": True, "logprobs": 20, "logit_bias": {"256": -100}}


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with serving(model(), request_timeout=1, max_connections=4) as made:
        yield made


def connected(local: Local, sent: bytes = b"") -> socket.socket:
    place = urlsplit(local.url)
    connection = socket.create_connection((place.hostname, place.port), timeout=30)
    connection.sendall(sent)
    return connection


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and error of what comes until the connection is closed; 0 if nothing comes."""
    with connection, connection.makefile("rb") as file:
        head, _, body = file.read().partition(b"\r\n\r\n")
    return (int(head.split()[1]), json.loads(body)["error"]) if head else (0, {})


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"GET /health HTTP/1.1\r\nX: " + b"a" * 40_000, 431, "the header has more than 32768 bytes"),
        (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431, "more than 100 header fields"),
        (b"GET /" + b"a" * 40_000, 431, "the header has more than 32768 bytes"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 5000, 400, "the body comes in too small"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 24 + b"\r\n", 400, "refused"),
        (POST + b"Content-Length: 1000\r\n\r\n{", 408, "has not come as a whole within 1 s"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", 408, "has not come as a whole within 1 s"),
        (b"GET /health HTTP/1.1\r\nHost: a", 408, "has not come as a whole within 1 s"),
        (b"hello\r\n\r\n", 400, "refused"),
        (b"", 0, ""),
    ],
)
def test_what_is_no_whole_request(local: Local, sent: bytes, status: int, words: str) -> None:
    """Oracle: the bounds that were set; the next request is answered."""
    found, error = answer(connected(local, sent))
    assert found == status
    assert words in error.get("message", "")
    assert local.post("/v1/chat/completions", ANSWER).status_code == 200


def test_requests_in_one_piece(local: Local) -> None:
    """Oracle: each of them is answered, and the time for the next one begins anew."""
    body = json.dumps(ANSWER).encode()
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with connected(local, whole * 3) as connection:
        got = b""
        while got.count(b'"usage"') < 3:
            got += connection.recv(1 << 16)
        connection.sendall(POST + b"Content-Length: 9\r\n\r\n{")
        assert b" 408 " in connection.recv(1 << 16)


def test_many_connections(local: Local) -> None:
    """Oracle: four may be open: the one that has been silent longest makes room, with a word."""
    silent = [connected(local) for _ in range(4)]
    assert local.get("/v1/models").status_code == 200
    status, error = answer(silent[0])
    assert (status, error["message"]) == (503, "too many connections")
    for connection in silent:
        connection.close()


def test_all_connections_are_answered(local: Local) -> None:
    """Oracle: a supervisor is answered beside four streams, others are told when to try again."""
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(httpx2.Client(timeout=30))
            stack.enter_context(client.stream("POST", f"{local.url}/v1/completions", json=ENDLESS))
        assert local.get("/health").status_code == 200
        refused = local.get("/v1/models")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        until(lambda: local.host.served.engine.stats.decode == 4)
    local.idle()
    assert local.get("/v1/models").status_code == 200


def test_a_client_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: its stream is cut before its end, and the engine stops writing it."""
    monkeypatch.setattr(run, "Bounds", partial(Bounds, taking=0.2))
    # The prompt's log probabilities alone are more than the system keeps for a client.
    body = json.dumps({**ENDLESS, "prompt": "a" * 5000, "echo": True}).encode()
    with serving(model()) as here:
        sent = POST.replace(b"chat/", b"") + b"Content-Length: %d\r\n\r\n" % len(body) + body
        with connected(here, sent) as connection:
            until(lambda: here.host.served.engine.stats.decode == 1)
            here.idle()
            assert here.get("/health").status_code == 200
            got = b""
            try:
                while piece := connection.recv(1 << 20):
                    got += piece
            except ConnectionError:
                pass
        assert got.startswith(b"HTTP/1.1 200") and b"[DONE]" not in got


def post(local: Local, path: str, body: bytes, **headers: str) -> httpx2.Response:
    return httpx2.post(local.url + path, content=body, headers=headers, timeout=30)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=a"])
def test_another_kind_of_body(local: Local, kind: str) -> None:
    """Oracle: what curl sends where it is not told more; the sentence names the header that is missing."""
    reply = post(local, "/v1/chat/completions", json.dumps(ANSWER).encode(), **{"Content-Type": kind})
    assert reply.status_code == 415
    error = reply.json()["error"]
    assert kind.partition(";")[0] in error["message"] and "Content-Type: application/json" in error["message"]
    assert error["code"] == "unsupported_media_type"


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/vnd.a+json"])
def test_json_by_its_names(local: Local, kind: str) -> None:
    """Oracle: the answer."""
    assert post(local, "/v1/completions", b'{"prompt": "a"}', **{"Content-Type": kind}).status_code == 200


MANY = {
    "messages": ("/v1/chat/completions", {"messages": HELLO * 5000}, "there are 5000, but may be at most 4096"),
    "wrong messages": ("/v1/chat/completions", {"messages": [7] * 4000}, "messages.0: Input should be an object"),
    "tools": ("/v1/chat/completions", {**ANSWER, "tools": [{}] * 129}, "tools: there are 129, but may be at most 128"),
    "stops": ("/v1/completions", {"prompt": "a", "stop": ["b"] * 65}, "stop: there are 65, but may be at most 64"),
    "a long stop": ("/v1/completions", {"prompt": "a", "stop": "b" * 1001}, "stop"),
    "biases": ("/v1/completions", {"prompt": "a", "logit_bias": dict.fromkeys(map(str, range(1025)), 1)}, "logit_bias"),
    "prompts": ("/v1/completions", {"prompt": ["a"] * 129}, "prompt: there are 129, but may be at most 128"),
    "no prompts": ("/v1/completions", {"prompt": [[]] * 100_000}, "prompt: there are 100000, but may be at most 128"),
    "n": ("/v1/completions", {"prompt": "a", "n": 129}, "n: Input should be less than or equal to 128"),
    "inputs": ("/v1/embeddings", {"input": ["a"] * 3000}, "input: there are 3000, but may be at most 2048"),
    "parts": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2000}]},
        "messages.0.content: there are 2000, but may be at most 1024",
    ),
    "a text": ("/v1/completions", {"prompt": "a" * 1_700_000}, "the text has 1700000 bytes, but the 100000 tokens"),
    "ids": ("/v1/completions", {"prompt": [1] * 100_001}, "the prompt has 100001 tokens, but may have 100000"),
    "a message": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "a" * 1_700_000}]},
        "bytes, but the 100000 tokens",
    ),
    "tokens of inputs": ("/v1/embeddings", {"input": ["a" * 90_000] * 4}, "the inputs have 360000 tokens"),
    "text to tokenize": ("/tokenize", {"text": "a" * 1_700_000}, "bytes, but the 100000 tokens"),
}


@pytest.mark.parametrize("case", MANY)
def test_too_many(local: Local, case: str) -> None:
    """Oracle: the bounds by hand, each in a sentence."""
    path, body, words = MANY[case]
    reply = local.post(path, body)
    assert reply.status_code == 400, reply.text
    message = reply.json()["error"]["message"]
    assert words in message and len(message) < 300


def test_bytes_of_a_body(local: Local) -> None:
    """Oracle: three bytes of JSON for each byte of text that the context holds: 100,000 tokens of 16 bytes at most."""
    assert local.host.most_body() == 4_800_000
    reply = post(local, "/v1/completions", b" " * 4_800_001, **{"Content-Type": "application/json"})
    assert reply.status_code == 413 and "more than 4800000 bytes" in reply.json()["error"]["message"]


def test_bytes_of_all_bodies() -> None:
    """Oracle: sixteen bodies of the largest size may be on their way; later ones are told to come again."""
    with serving(model(), max_body=1000) as here:
        halves = [connected(here, POST + b"Content-Length: 1000\r\n\r\n" + b" " * 990) for _ in range(16)]
        ask = partial(
            post, here, "/v1/completions", b'{"prompt": "a"}' + b" " * 900, **{"Content-Type": "application/json"}
        )
        until(lambda: ask().status_code == 503)
        assert ask().headers["retry-after"] == "1"
        assert here.get("/health").status_code == 200
        for connection in halves:
            connection.close()
        until(lambda: ask().status_code == 200)


JSON = st.recursive(
    st.none() | st.integers() | st.text('a\\"[]{},:\n\u00e9'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('a"\\[,'), inner, max_size=4),
)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _values(value: Any) -> int:
    inner = list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    return isinstance(value, (list, dict)) + max(0, len(inner) - 1) + sum(map(_values, inner))


@given(value=JSON, seed=st.integers(0, 99), ascii_only=st.booleans())
def test_depth_and_values_of_json(value: Any, seed: int, ascii_only: bool) -> None:
    """Oracle: the value itself, counted; however its text is cut into pieces."""
    text, rng = json.dumps(value, ensure_ascii=ascii_only).encode(), random.Random(seed)
    for most, counted, bound in (("_DEPTH", _depth(value), 400), ("_VALUES", _values(value), 413)):
        for limit in (counted, counted - 1):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(bodies, most, limit)
                refused = _refused(text, rng)
            assert refused == (None if limit == counted else bound)


def _refused(text: bytes, rng: random.Random) -> int | None:
    found, at = JsonBounds(), 0
    try:
        while at < len(text):
            size = rng.randrange(1, 5)
            found.look_over(text[at : at + size])
            at += size
    except RefusedError as error:
        return error.status
    return None
