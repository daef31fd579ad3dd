"""Sessions that many clients create, fork, delete and use at the same moment."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from braidlm.engine import Limits
from braidlm.sessions import Session, SessionStore
from tests.server.local import Local, model, serving

MANY = 16
LIMITS = Limits(parallel=4, snapshot_interval=16)


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def ask(server: Local, name: str, text: str, **more: Any) -> httpx2.Response:
    body = {"session": name, "messages": said(text), "max_tokens": 3, "temperature": 0, **more}
    return server.post("/v1/chat/completions", body)


def together(work: Callable[[int], httpx2.Response]) -> list[httpx2.Response]:
    with ThreadPoolExecutor(MANY) as pool:
        return list(pool.map(work, range(MANY)))


def require_one_winner(answers: list[httpx2.Response]) -> int:
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [201] + [409] * (MANY - 1)
    for answer in answers:
        assert answer.status_code == 201 or answer.json()["error"]["code"] in ("session_exists", "session_busy")
    return statuses.index(201)


def test_one_of_many_creates_and_forks(tmp_path: Path) -> None:
    """Oracle: the messages of the one that was told 201; all others are told 409."""
    with serving(model(), tmp_path, LIMITS) as server:
        answers = together(lambda n: server.post("/v1/sessions", {"id": "talk", "messages": said(str(n))}))
        winner = require_one_winner(answers)
        assert server.get("/v1/sessions/talk").json()["messages"] == said(str(winner))
        for number in range(MANY):
            server.post("/v1/sessions", {"id": f"of-{number}", "messages": said(f"of {number}")})
        parts = (None, 1)
        answers = together(lambda n: server.post(f"/v1/sessions/of-{n}/fork", {"id": "fork", "keep": parts[n % 2]}))
        winner = require_one_winner(answers)
        assert server.get("/v1/sessions/fork").json()["messages"] == said(f"of {winner}")
        assert len(server.get("/v1/sessions").json()["data"]) == MANY + 2


def test_deleted_while_it_is_used(tmp_path: Path) -> None:
    """Oracle: by hand: what was deleted stays so, whoever else asks at the time; nobody is told of a fault of ours."""
    with serving(model(), tmp_path, LIMITS) as server:
        for number in range(4):
            name = f"talk-{number}"
            server.post("/v1/sessions", {"id": name, "messages": said("hello")})

            def one(n: int, name: str = name) -> httpx2.Response:
                if n % 4 == 0:
                    return httpx2.delete(f"{server.url}/v1/sessions/{name}", timeout=60)
                if n % 4 == 1:
                    return server.post(f"/v1/sessions/{name}/fork", {"id": f"{name}-{n}"})
                return server.get(f"/v1/sessions/{name}") if n % 4 == 2 else ask(server, name, "and?")

            answers = together(one)
            assert {answer.status_code for answer in answers} <= {200, 201, 404, 409}
            deleted = [answer.status_code for answer in answers[::4]].count(200)  # none if others kept it busy
            assert deleted <= 1
            assert server.get(f"/v1/sessions/{name}").status_code == (404 if deleted else 200)
            forks = {f"{name}-{n}" for n in range(1, MANY, 4) if answers[n].status_code == 201}
            listed = {item["id"] for item in server.get("/v1/sessions").json()["data"]}
            assert {item for item in listed if item.startswith(name)} == forks | ({name} if not deleted else set())


def test_changed_by_another_process_meanwhile(tmp_path: Path) -> None:
    """Oracle: by hand: the other's session stays, or its deletion; the turn ends with 409 and one sentence."""
    with serving(model(), tmp_path, LIMITS) as server:
        other, store = server.host.served.engine.owner, SessionStore(tmp_path)
        for name in ("changed", "deleted"):
            server.post("/v1/sessions", {"id": name, "messages": said("hello")})
            body = {"session": name, "messages": said("go on"), "stream": True, "max_tokens": 40}
            with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as answer:
                lines = answer.iter_lines()
                next(lines)
                if name == "changed":
                    store.save(name, Session(said("other words")), (), other, "")
                else:
                    store.delete(name)
                rest = [line for line in lines if line]
            assert "was changed or deleted elsewhere" in rest[-1]
        assert server.get("/v1/sessions/changed").json()["messages"] == said("other words")
        assert server.get("/v1/sessions/deleted").status_code == 404
        assert [path.name for path in tmp_path.iterdir()] == ["changed.session"]


def test_a_title_is_that_of_the_words_before_or_after(tmp_path: Path) -> None:
    """Oracle: the two first messages that a session has had: a listing beside edits shows one of them."""
    with serving(model(), tmp_path, LIMITS) as server:
        server.post("/v1/sessions", {"id": "talk", "messages": said("first words")})

        def one(n: int) -> httpx2.Response:
            if n % 4 == 0:
                return ask(server, "talk", ("second words", "first words")[n // 4 % 2], session_keep=0)
            return server.get("/v1/sessions")

        answers = together(one)
        titles = [item["title"] for n in range(MANY) if n % 4 for item in answers[n].json()["data"]]
        assert len(titles) == MANY * 3 // 4
        assert set(titles) <= {"first words", "second words"}
        assert {answer.status_code for answer in answers} <= {200, 409}
