"""Clients that read completions as they are written, and note when each token came."""

import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2

_TIMEOUT = httpx2.Timeout(None, connect=60)
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)


@dataclass
class Stream:
    """One answer: its tokens as (text, log probability), and when they came, in seconds of `time.perf_counter`."""

    body: dict[str, Any]
    begun: float = 0.0
    times: list[float] = field(default_factory=list)
    tokens: list[tuple[str, float]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)

    def seconds_per_token(self, begin: float, end: float) -> float | None:
        """Mean seconds between the tokens that came in a stretch of time; None of fewer than three tokens."""
        inside = [moment for moment in self.times if begin <= moment <= end]
        return (inside[-1] - inside[0]) / (len(inside) - 1) if len(inside) > 2 else None


def client(url: str) -> httpx2.AsyncClient:
    """For as many streams at once as one likes."""
    return httpx2.AsyncClient(base_url=url, timeout=_TIMEOUT, limits=_LIMITS)


def asked(ids: list[int], tokens: int, seed: int, temperature: float = 1.0) -> dict[str, Any]:
    """A request to go on from token ids. With log probabilities, every token is an event, and bits can be compared."""
    return {
        "prompt": ids, "max_tokens": tokens, "temperature": temperature, "seed": seed,
        "stream": True, "logprobs": 0, "stream_options": {"include_usage": True},
    }  # fmt: skip


def random_ids(rng: random.Random, length: int, vocab: int) -> list[int]:
    """A prompt that no other one begins like."""
    return [rng.randrange(vocab) for _ in range(length)]


async def read(client: httpx2.AsyncClient, body: dict[str, Any], into: Stream | None = None) -> Stream:
    """The whole answer to `body`, written down in `into` as it comes; `RuntimeError` if it is none."""
    found = into or Stream(body)
    found.begun = time.perf_counter()
    async with client.stream("POST", "/v1/completions", json=body) as reply:
        if reply.status_code != 200:
            raise RuntimeError(f"status {reply.status_code}: {(await reply.aread()).decode()[:200]}")
        ended = False
        async for line in reply.aiter_lines():
            ended = ended or line == "data: [DONE]"
            if line.startswith("data: {"):
                _note(found, json.loads(line[6:]))
    if not ended:
        raise RuntimeError("a stream broke off")
    return found


def _note(stream: Stream, event: dict[str, Any]) -> None:
    if "error" in event:
        raise RuntimeError(event["error"]["message"])
    stream.usage = event.get("usage") or stream.usage
    for choice in event["choices"]:
        if choice["logprobs"]:
            stream.times.append(time.perf_counter())
            stream.tokens += zip(choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"], strict=True)
