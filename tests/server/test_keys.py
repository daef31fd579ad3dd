"""Two keys at one server: neither usage nor answers tell one what the other asked."""

from pathlib import Path
from typing import Any

import pytest

from tests.server.local import Local, model, serving

KEYS = ("key-one", "key-two")
LONG = "Once upon a time there was a river. " * 12


def usage(server: Local, key: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = server.post(path, {"max_tokens": 4, **body}, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["usage"]["prompt_tokens_details"]
    return found


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_key_sees_its_own_prompts_alone(path: str) -> None:
    """Oracle: usage at a server that nobody else has asked; one's own prompt comes again as cached."""
    asked: dict[str, Any] = (
        {"prompt": LONG} if "chat" not in path else {"messages": [{"role": "user", "content": LONG}]}
    )
    with serving(model(), api_keys=KEYS) as server:
        fresh = usage(server, KEYS[1], path, asked)
    with serving(model(), api_keys=KEYS) as server:
        usage(server, KEYS[0], path, asked)
        assert usage(server, KEYS[1], path, asked) == fresh
        assert (fresh["cached_tokens"], fresh["recomputed_tokens"]) == (0, 0)
        for key in KEYS:
            assert usage(server, key, path, asked)["cached_tokens"] > 0
        # `user` is the client's own word: it neither joins keys nor parts what one key asks.
        assert usage(server, KEYS[1], path, {**asked, "user": "someone"})["cached_tokens"] > 0


@pytest.mark.parametrize("settings", [{"api_keys": KEYS, "share_prefix_cache": True}, {}])
def test_what_is_shared(settings: dict[str, Any]) -> None:
    """Oracle: cached tokens for the second who asks: with the flag that says so, and where there are no keys."""
    with serving(model(), **settings) as server:
        usage(server, KEYS[0], "/v1/completions", {"prompt": LONG})
        assert usage(server, KEYS[1], "/v1/completions", {"prompt": LONG})["cached_tokens"] > 0


def test_a_session_begun_before_goes_on(tmp_path: Path) -> None:
    """Oracle: cached tokens: the states on disk serve its own key after a restart, whatever other keys have asked."""
    body = {"session": "talk", "messages": [{"role": "user", "content": LONG}]}
    told = {"Authorization": f"Bearer {KEYS[0]}"}
    with serving(model(), tmp_path, api_keys=KEYS) as server:
        assert server.post("/v1/sessions", {"id": "talk"}, headers=told).status_code == 201
        usage(server, KEYS[0], "/v1/chat/completions", body)
    with serving(model(), tmp_path, api_keys=KEYS) as server:
        other = usage(server, KEYS[1], "/v1/chat/completions", {"messages": body["messages"]})
        assert other["cached_tokens"] == 0
        again = usage(
            server, KEYS[0], "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": "go"}]}
        )
        assert again["cached_tokens"] > 400
