"""Middleware of every request: its id, its log line, its API key, its rate limit."""

import asyncio
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import RefusedError, reply

Now = Callable[[], float]
Observe = Callable[[str, int], None]

log = logging.getLogger("braidlm.server")

_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
# What a browser needs before somebody has typed a key, and what a supervisor asks.
_OPEN = ("/health", "/ready", "/docs", "/openapi.json")


class RequestLog:
    """Middleware that gives each request an id, and logs one line of JSON when it is answered: numbers, no texts."""

    def __init__(self, app: ASGIApp, observe: Observe) -> None:
        """`observe` gets the path's pattern and the status of each answer."""
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        log_fields: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=name, log_fields=log_fields)

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = name
            await send(message)

        try:
            await self._app(scope, receive, answered)
        except asyncio.CancelledError:
            log_fields["gone"] = True
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._observe(route, status)
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "request": name,
                "client": scope["state"].get("client"),
                "method": scope["method"],
                "path": route if route != "other" else scope["path"],
                "status": status,
                "seconds": round(time.perf_counter() - begun, 4),
            }
            log.info(json.dumps(line | log_fields))


class Access:
    """Middleware that requires an API key, where there are keys, and limits the requests of each client."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], rate: int, now: Now = time.monotonic) -> None:
        """`rate` is requests a minute for each client; 0 allows any."""
        self._app = app
        self._keys = keys
        self._rate = rate
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}  # requests that a client may still make, and since when

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                client = self._client(scope)
                scope.setdefault("state", {})["client"] = client
                self._count(client)
            except RefusedError as error:
                await reply(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _client(self, scope: Scope) -> str:
        """Name of the client: of its key, which must be right, or of its address."""
        if not self._keys:
            return str(scope["client"][0]) if scope.get("client") else "local"
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        known = [key for key in self._keys if hmac.compare_digest(key.encode(), given.strip().encode())]
        if kind.lower() != "bearer" or not known:
            raise RefusedError(
                401, "a valid API key is needed, as the header Authorization: Bearer KEY", code="invalid_api_key"
            )
        return _key_name(known[0])

    def _count(self, client: str) -> None:
        if not self._rate:
            return
        now = self._now()
        left, since = self._left.get(client, (float(self._rate), now))
        left = min(self._rate, left + (now - since) * self._rate / 60)
        if left < 1:
            wait = int((1 - left) * 60 / self._rate) + 1
            raise RefusedError(
                429, f"more than {self._rate} requests a minute; try again in {wait} s", code="rate_limit_exceeded",
                wait=wait,
            )  # fmt: skip
        self._left[client] = left - 1, now
        if len(self._left) > 10_000:  # those who have been quiet for a minute have nothing to remember
            self._left = {name: entry for name, entry in self._left.items() if now - entry[1] < 60}


def _key_name(key: str) -> str:
    """Name of a key where the key itself must not be shown."""
    return hashlib.blake2b(key.encode(), digest_size=4).hexdigest()


def _is_open(path: str) -> bool:
    return path in ("/", *_OPEN) or path.startswith(("/page/", "/docs/"))
