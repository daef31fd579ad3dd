"""Sessions over HTTP: turns, edits, branches; and what a server leaves behind when it is stopped or killed."""

import json
import signal
import threading
from pathlib import Path

import httpx2
import pytest

from tests.server.turns import GREEDY, content, cost, said, turn

from .conftest import Server, Start


def test_turns(server: Server) -> None:
    """Oracle: the same chat without a session; from the second turn on only what is new is read."""
    server.post("/v1/sessions", {"id": "turns", "messages": [{"role": "system", "content": "Be brief."}]})
    messages: list[dict[str, str]] = [{"role": "system", "content": "Be brief."}]
    for number, text in enumerate(("What is the capital of France?", "And of Italy?", "Which is larger?")):
        before = server.get("/v1/sessions/turns").json()["tokens"]
        reply = turn(server, "turns", text)
        messages += said(text)
        plain = server.post("/v1/chat/completions", {**GREEDY, "messages": messages}).json()
        assert content(plain) == content(reply)
        messages.append({"role": "assistant", "content": content(reply)})
        if number:
            assert cost(reply)[0] == before - 1
            assert cost(reply)[1] == 0
    about = server.get("/v1/sessions/turns").json()
    assert about["messages"] == messages
    assert about["title"] == "What is the capital of France?"
    listed = {item["id"]: item for item in server.get("/v1/sessions").json()["data"]}
    assert listed["turns"] == {**about, "messages": 7}


def test_regenerate_edit_and_branch(server: Server) -> None:
    """Oracle: the messages that stay; an answer written again with another seed differs."""
    server.post("/v1/sessions", {"id": "tree"})
    first = turn(server, "tree", "Tell me a story.", temperature=1.0, seed=1)
    again = turn(server, "tree", None, session_keep=1, temperature=1.0, seed=2)
    assert content(first) != content(again)
    assert cost(again)[1:] == (0, 1)
    turn(server, "tree", "Go on.")
    fork = server.post("/v1/sessions/tree/fork", {"keep": 2, "id": "branch"})
    assert fork.status_code == 201 and fork.json()["messages"] == 2
    edited = turn(server, "tree", "Tell me a joke.", session_keep=0)
    assert [message["content"] for message in server.get("/v1/sessions/tree").json()["messages"]] == [
        "Tell me a joke.",
        content(edited),
    ]
    branch = turn(server, "branch", "Go on.")
    assert cost(branch)[1] == 0
    assert server.get("/v1/sessions/branch").json()["messages"][1]["content"] == content(again)
    assert server.post("/v1/sessions", {"id": "tree"}).status_code == 409
    assert server.post("/v1/sessions/tree/fork", {"id": "branch"}).status_code == 409
    assert server.post("/v1/sessions/tree/fork", {"keep": 9}).status_code == 400
    assert httpx2.delete(f"{server.url}/v1/sessions/tree").json()["deleted"] is True
    assert server.get("/v1/sessions/tree").status_code == 404
    refused = server.post("/v1/chat/completions", {"messages": said("hi"), "session": "tree"})
    assert refused.status_code == 404 and refused.json()["error"]["code"] == "session_not_found"


def test_killed_and_started_again(start: Start, small: Path, tmp_path: Path) -> None:
    """Oracle: a server that was not killed: the same answer, and not a token is read again."""
    server = start(model=small, sessions=tmp_path)
    server.post("/v1/sessions", {"id": "kept"})
    turn(server, "kept", "What is the capital of France?")
    turn(server, "kept", "And of Italy?")
    server.post("/v1/sessions/kept/fork", {"id": "twin"})
    before = server.get("/v1/sessions/kept").json()["tokens"]
    expected = turn(server, "twin", "And of Spain?")
    # Killed while the next turn is being written: that one alone is lost.
    with httpx2.Client(timeout=60) as client:
        body = {"messages": said("Tell me everything."), "session": "kept", "stream": True, "max_tokens": 2000}
        with client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as stream:
            next(stream.iter_lines())
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
    again = start(model=small, sessions=tmp_path)
    assert again.get("/v1/sessions/kept").json()["tokens"] == before
    reply = turn(again, "kept", "And of Spain?")
    assert content(reply) == content(expected)
    assert cost(reply)[0] == before - 1
    assert cost(reply)[1] == 0


@pytest.mark.parametrize("shutdown_timeout", [60, 0])
def test_asked_to_stop(start: Start, small: Path, tmp_path: Path, shutdown_timeout: int) -> None:
    """Oracle: the end of the stream: a turn that has time is finished, one that has none is stored as far as it is."""
    server = start("--shutdown-timeout", str(shutdown_timeout), model=small, sessions=tmp_path)
    server.post("/v1/sessions", {"id": "last"})
    body = {"messages": said("Count to a hundred."), "session": "last", "stream": True, "max_tokens": 1000, "seed": 1}
    body["response_format"] = {"type": "regex", "regex": "[a-z]{9000}"}  # no half of a letter is left at the end
    lines: list[str] = []
    begun = threading.Event()

    def read() -> None:
        try:
            with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as stream:
                for line in stream.iter_lines():
                    lines.append(line)
                    if len(lines) > 12:
                        begun.set()
        except httpx2.TransportError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.log.read_text()
    reader.join()
    if shutdown_timeout:
        assert lines[-2] == "data: [DONE]"
    again = start(model=small, sessions=tmp_path)
    messages = again.get("/v1/sessions/last").json()["messages"]
    parts = [json.loads(line[6:])["choices"][0]["delta"] for line in lines if line.startswith("data: {")]
    seen = "".join(part.get("content") or "" for part in parts)
    assert messages[1]["content"].startswith(seen)
    assert seen
    assert cost(turn(again, "last", "Go on."))[1] == 0
