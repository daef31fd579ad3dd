"""Sessions that are asked again at once after their stream was left; and sessions of models that cannot chat."""

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from braidlm.engine import Limits
from braidlm.sessions import SessionStore, Stamp
from tests.server.local import Local, model, serving

ENDLESS = {"max_tokens": 50_000, "temperature": 1.0, "seed": 3}


def leave(server: Local, name: str, text: str) -> None:
    """Asks for a long answer and leaves after its first words."""
    body = {"session": name, "messages": [{"role": "user", "content": text}], "stream": True, **ENDLESS}
    with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        for _, line in zip(range(8), answer.iter_lines(), strict=False):
            assert line == "" or line.startswith("data: ")


def ask(server: Local, name: str, text: str) -> httpx2.Response:
    body: dict[str, Any] = {"session": name, "messages": [{"role": "user", "content": text}], "max_tokens": 3}
    return server.post("/v1/chat/completions", body)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes longer to store a session than a client takes to ask again."""
    save = SessionStore.save

    def later(self: SessionStore, *given: Any, **how: Any) -> Stamp:
        time.sleep(0.6)  # longer than a client that stays is waited for
        return save(self, *given, **how)

    monkeypatch.setattr(SessionStore, "save", later)


def test_asked_again_at_once(tmp_path: Path, slow: None) -> None:
    """Oracle: by hand: every turn is there, in order, what was left as far as it was written; nobody is refused."""
    with serving(model(), tmp_path, Limits(parallel=2, snapshot_interval=16)) as server:
        assert server.post("/v1/sessions", {"id": "talk"}).status_code == 201
        for number in range(2):
            leave(server, "talk", f"left {number}")
            answer = ask(server, "talk", f"asked {number}")
            assert answer.status_code == 200, answer.text
        messages = server.get("/v1/sessions/talk").json()["messages"]
        said = [message["content"] for message in messages if message["role"] == "user"]
        assert said == ["left 0", "asked 0", "left 1", "asked 1"]
        assert [message["role"] for message in messages] == ["user", "assistant"] * 4
        leave(server, "talk", "and more")
        assert server.get("/v1/sessions/talk").status_code == 200
        leave(server, "talk", "before a fork")
        assert server.post("/v1/sessions/talk/fork", {"id": "other"}).status_code == 201
        leave(server, "talk", "before the end")
        assert httpx2.delete(f"{server.url}/v1/sessions/talk", timeout=60).status_code == 200


def test_beside_a_client_that_stays(tmp_path: Path) -> None:
    """Oracle: 409, a code, and when to try again; the answer that is being written goes on."""
    with serving(model(), tmp_path, Limits(parallel=2, snapshot_interval=16)) as server:
        server.post("/v1/sessions", {"id": "talk"})
        body = {"session": "talk", "messages": [{"role": "user", "content": "hello"}], "stream": True, **ENDLESS}
        with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            refused = ask(server, "talk", "me too")
            assert (refused.status_code, refused.headers["retry-after"]) == (409, "1")
            assert refused.json()["error"]["code"] == "session_busy"
            assert any(line.startswith("data: ") for _, line in zip(range(4), lines, strict=False))


def test_models_that_cannot_chat_have_no_sessions(tmp_path: Path) -> None:
    """Oracle: 400 and one sentence, at every path of sessions; nothing is stored."""
    with serving(model(template=None), tmp_path) as server:
        url = f"{server.url}/v1/sessions"
        answers = [
            httpx2.post(url, json={}),
            httpx2.post(url, json={"id": "x", "messages": [{"role": "user", "content": "hi"}]}),
            httpx2.get(url),
            httpx2.get(f"{url}/x"),
            httpx2.post(f"{url}/x/fork", json={}),
            httpx2.delete(f"{url}/x"),
            ask(server, "x", "hi"),
        ]
        for answer in answers:
            assert answer.status_code == 400, answer.text
            assert "no chat template" in answer.json()["error"]["message"]
    assert list(tmp_path.iterdir()) == []
