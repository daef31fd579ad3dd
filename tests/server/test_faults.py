"""What must not bring a server down: clients that leave, lie or dawdle, a full disk, a failure inside."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import torch

from braidlm.engine import Limits

from .local import NAME, Local, model, serving, until

HELLO = [{"role": "user", "content": "hello"}]
ANSWER = {"messages": HELLO, "max_tokens": 20, "seed": 1}
# Longer than any test waits for, and of letters, which read back as they were written.
LONG = {**ANSWER, "max_tokens": 50_000, "response_format": {"type": "regex", "regex": "[a-z]{90000}"}}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with serving(
        model(), tmp_path_factory.mktemp("sessions"), Limits(parallel=4, snapshot_interval=16), max_body=100_000
    ) as made:
        yield made


def raw(local: Local, head: str, body: bytes) -> socket.socket:
    """A connection on which a request was sent, byte by byte as given."""
    place = urlsplit(local.url)
    connection = socket.create_connection((place.hostname, place.port))
    connection.sendall(f"{head}\r\nHost: {place.netloc}\r\n\r\n".encode() + body)
    return connection


def post(path: str, body: bytes) -> str:
    return f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"


def chatted(local: Local) -> str:
    return local.post("/v1/chat/completions", ANSWER).json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves(local: Local, stream: bool) -> None:
    """Oracle: the engine's load; what was written by then is in the session, which can go on."""
    before, name = chatted(local), f"left-{stream}"
    assert local.post("/v1/sessions", {"id": name}).status_code == 201
    # Words of its own: the last token written counts as recomputed where a like text went further.
    said = [{"role": "user", "content": name}]
    body = json.dumps({**LONG, "messages": said, "stream": stream, "session": name}).encode()
    connection = raw(local, post("/v1/chat/completions", body), body)
    until(lambda: local.host.served.engine.stats.decode == 1)
    assert local.post("/v1/chat/completions", {**ANSWER, "session": name}).status_code == 409
    assert local.get(f"/v1/sessions/{name}").status_code == 409
    if stream:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    connection.close()
    local.idle()
    until(lambda: local.get(f"/v1/sessions/{name}").status_code == 200)
    messages = local.get(f"/v1/sessions/{name}").json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["content"].isalpha()
    more = local.post("/v1/chat/completions", {**ANSWER, "session": name}).json()
    assert more["usage"]["prompt_tokens_details"]["recomputed_tokens"] == 0
    assert chatted(local) == before


def test_a_client_that_reads_slowly(local: Local) -> None:
    """Oracle: others are answered meanwhile, and its session is stored though it has read nothing."""
    local.post("/v1/sessions", {"id": "slow"})
    body = json.dumps({**LONG, "max_tokens": 3000, "stream": True, "session": "slow"}).encode()
    connection = raw(local, post("/v1/chat/completions", body), body)
    assert chatted(local)
    until(lambda: local.get("/v1/sessions/slow").status_code == 200)
    written = local.get("/v1/sessions/slow").json()["messages"][1]["content"]
    with connection, connection.makefile("rb") as file:
        events = [json.loads(line[6:]) for line in file if line.startswith(b"data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == written


HOSTILE = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[1, 2]",
    "a number": b"7",
    "no text": b"\xff\xfe\x00",
    "invalid UTF-8": b'{"messages": [{"role": "user", "content": "\xc3\x28"}]}',
    "half a surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "half a surrogate as a field": b'{"messages": [], "\\ud800": 1}',
    "deep": b"[" * 50_000,
    "deep schema": b'{"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_schema", '
    b'"json_schema": {"schema": ' + b'{"items": ' * 900 + b"{}" + b"}" * 900 + b"}}}",
    "not a number": b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}',
    "infinite": b'{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}',
    "huge integer": b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 1' + b"0" * 5000 + b"}",
    "a number as text": b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": "7"}',
    "true as a number": b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": true}',
    "a role that is none": b'{"messages": [{"role": "god", "content": "a"}]}',
    "a picture": b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}',
    "no messages": b'{"messages": []}',
    "a session beyond": b'{"messages": [{"role": "user", "content": "a"}], "session": "../../etc/passwd"}',
    "too many tokens": b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 2147483648, "stop": ["e"]}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bodies(local: Local, body: bytes) -> None:
    """Oracle: a status that blames the client, in the form of every error; the server answers the next one."""
    headers = {"Content-Type": "application/json"}
    reply = httpx2.post(f"{local.url}/v1/chat/completions", content=body, headers=headers, timeout=60)
    if body == HOSTILE["too many tokens"]:  # no more than the context holds
        assert reply.status_code in (200, 400)
        return
    assert 400 <= reply.status_code < 500, reply.text
    error = reply.json()["error"]
    assert error["message"] and "\n" not in error["message"] and error["type"].endswith("_error")
    assert local.get("/health").status_code == 200


def test_too_much(local: Local) -> None:
    """Oracle: the limits that were set."""
    big = {"messages": [{"role": "user", "content": "a" * 100_001}]}
    assert local.post("/v1/chat/completions", big).status_code == 413
    # The same in chunks, without telling the length before.
    parts = (b"a" * 10_000 for _ in range(20))
    reply = httpx2.post(f"{local.url}/v1/completions", content=parts, headers={"Content-Type": "application/json"})
    assert reply.status_code == 413
    with serving(model(), limits=Limits(max_prompt_tokens=50)) as small:
        reply = small.post("/v1/completions", {"prompt": "a" * 60})
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_only_json_is_read(local: Local) -> None:
    """Oracle: what a page from elsewhere can send without asking (text/plain) is refused."""
    body = json.dumps(ANSWER)
    reply = httpx2.post(f"{local.url}/v1/chat/completions", content=body, headers={"Content-Type": "text/plain"})
    assert reply.status_code == 415


def test_a_failure_in_one_request() -> None:
    """Oracle: the other requests' answers, as they are without it; the error names its cause."""
    poisoned, bad = model(), model().encode("~")[0]
    run = poisoned._run

    def failing(ids: torch.Tensor, *more: object, **options: object) -> object:
        if (ids == bad).any():
            raise RuntimeError("the machine is on fire")
        return run(ids, *more, **options)

    poisoned._run = failing  # type: ignore[assignment]
    long = {"prompt": "a ~ b " * 20}  # short ones need no pass of their own
    with serving(poisoned) as here:
        alone = chatted(here)
        answers: list[str] = []
        threads = [threading.Thread(target=lambda: answers.append(chatted(here))) for _ in range(4)]
        for thread in threads:
            thread.start()
        reply = here.post("/v1/completions", long)
        streamed = here.post("/v1/completions", {**long, "stream": True})
        for thread in threads:
            thread.join()
        assert reply.status_code == 500
        assert "the machine is on fire" in reply.json()["error"]["message"]
        assert "the machine is on fire" in streamed.text
        assert answers == [alone] * 4


def test_a_full_disk(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the session that was stored before; the error names the disk; the others are answered."""
    local.post("/v1/sessions", {"id": "full"})
    local.post("/v1/chat/completions", {**ANSWER, "session": "full"})
    before = local.get("/v1/sessions/full").json()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("braidlm.state.state_file.save_file", full)
    reply = local.post("/v1/chat/completions", {**ANSWER, "session": "full"})
    assert reply.status_code == 507
    assert "No space left on device" in reply.json()["error"]["message"]
    streamed = local.post("/v1/chat/completions", {**ANSWER, "session": "full", "stream": True}).text
    assert "No space left on device" in streamed and "[DONE]" not in streamed
    assert local.post("/v1/sessions", {}).status_code == 507
    assert chatted(local)
    monkeypatch.undo()
    assert local.get("/v1/sessions/full").json() == before


def test_a_full_queue() -> None:
    """Oracle: one text is written and one may wait."""
    with serving(model(), limits=Limits(parallel=1, max_queue=1)) as small, httpx2.Client(base_url=small.url) as client:
        body = {**LONG, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body):
            until(lambda: small.host.served.engine.stats.decode == 1)
            with client.stream("POST", "/v1/chat/completions", json=body):
                until(lambda: small.host.served.engine.stats.waiting == 1)
                reply = small.post("/v1/chat/completions", ANSWER)
                assert reply.status_code == 429
                assert int(reply.headers["retry-after"]) >= 1
                assert reply.json()["error"]["code"] == "queue_full"
        small.idle()
        assert chatted(small)


def test_too_many_rules(local: Local) -> None:
    """Oracle: none of the places for rules is free, then all are; who is refused may try again."""
    process = local.host.served.engine._compile_grammar._process  # type: ignore[union-attr]
    rule = {"name": "any", "schema": {"type": "string", "maxLength": 3}}
    body = {**ANSWER, "response_format": {"type": "json_schema", "json_schema": rule}}
    taken = 0
    while process._seats.acquire(blocking=False):
        taken += 1
    try:
        refused = local.post("/v1/chat/completions", body)
    finally:
        process._seats.release(taken)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "busy"
    assert local.post("/v1/chat/completions", body).status_code == 200


def test_many_clients(local: Local) -> None:
    """Oracle: each request's answer when it is alone."""
    asked = [{"prompt": "x" * (7 * n % 60 + 1), "max_tokens": 5 + 3 * n, "seed": n} for n in range(24)]
    alone = [local.post("/v1/completions", body).json()["choices"][0]["text"] for body in asked]
    together: dict[int, str] = {}

    def ask(n: int) -> None:
        together[n] = local.post("/v1/completions", asked[n]).json()["choices"][0]["text"]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[n] for n in range(24)] == alone


def test_while_it_loads_and_when_it_cannot(tmp_path: Path) -> None:
    """Oracle: 503 until the model is there, and for ever if it never is."""
    begin = threading.Event()

    def slowly() -> object:
        begin.wait()
        return model()

    with serving(slowly, ready=False) as here:  # type: ignore[arg-type]
        assert here.get("/health").status_code == 200
        for reply in (here.get("/ready"), here.post("/v1/chat/completions", ANSWER)):
            assert reply.status_code == 503
            assert reply.headers["retry-after"]
        begin.set()
        until(lambda: here.get("/ready").status_code == 200)
        assert here.get("/v1/models").json()["data"][0]["id"] == NAME

    def broken() -> object:
        raise ValueError("no such weights")

    with serving(broken, ready=False) as here:  # type: ignore[arg-type]
        until(lambda: here.get("/health").status_code == 503)
        assert "no such weights" in here.get("/ready").json()["error"]["message"]


def test_without_a_template() -> None:
    """Oracle: completions still work; the error says what to use."""
    with serving(model(template=None)) as here:
        assert here.get("/info").json()["chat"] is False
        reply = here.post("/v1/chat/completions", ANSWER)
        assert reply.status_code == 400
        assert "/v1/completions" in reply.json()["error"]["message"]
        assert here.post("/v1/completions", {"prompt": "a"}).status_code == 200
        assert here.get("/v1/sessions").status_code == 400
