"""Turns of a session: what is sent, and what an answer says."""

from typing import Any

from .conftest import Server

GREEDY = {"temperature": 0, "max_tokens": 16}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def turn(server: Server, name: str, text: str | None, **more: Any) -> dict[str, Any]:
    body = {**GREEDY, "session": name, "messages": said(text) if text else [], **more}
    reply = server.post("/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def cost(reply: dict[str, Any]) -> tuple[int, int, int]:
    details = reply["usage"]["prompt_tokens_details"]
    return details["cached_tokens"], details["recomputed_tokens"], details["computed_tokens"]


def content(reply: dict[str, Any]) -> str:
    return reply["choices"][0]["message"]["content"]
