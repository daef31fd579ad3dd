"""A request's way to a replica, and the answer's way back."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.types import Message, Receive, Scope, Send

from ..errors import RefusedError, body
from ..settings import Settings
from ..writing import event, gone
from .replica import TOLD
from .routing import RoutingKey, wish_of

if TYPE_CHECKING:
    from .cluster import Replicas

# What a replica is told of a request; the rest of a scope is of this process.
_SCOPE = "type asgi http_version method scheme path raw_path query_string root_path headers".split()


class ReplicaProxy:
    """Passes requests to replicas, and what they answer back."""

    def __init__(self, replicas: "Callable[[], Replicas]", settings: Settings) -> None:
        """`replicas` refuses while there are none."""
        self._replicas = replicas
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        state, replicas, asked = scope["state"], self._replicas(), bytearray()
        while (message := await receive())["type"] == "http.request":
            asked += message.get("body", b"")
            if not message.get("more_body"):
                break
        else:  # the client has left
            return
        whole = bytes(asked)
        wish = await asyncio.to_thread(wish_of, scope["path"], whole, self._settings.owner(state["client"]))
        answer = _Answer(state["told"], send)
        slim = {key: scope[key] for key in _SCOPE if key in scope} | {"state": {"client": state["client"], "told": {}}}
        passing = asyncio.create_task(answer.take(replicas, wish, slim, whole))
        leaving = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait((passing, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answer.ended:  # else only the log's figures are still to come
                passing.cancel()
            await asyncio.wait((passing,))
        finally:
            leaving.cancel()
            passing.cancel()
        if not passing.cancelled():
            passing.result()


class _Answer:
    """A response on its way."""

    def __init__(self, told: dict[str, Any], send: Send) -> None:
        self._told = told
        self._send = send
        self._streams = False  # whether an event may still follow
        self.ended = False

    async def take(self, replicas: "Replicas", wish: RoutingKey, scope: Scope, body_: bytes) -> None:
        """Passes on what a replica answers, and tells the log what it says."""
        try:
            async with aclosing(replicas.exchange(wish, scope, body_)) as exchange:
                async for messages in exchange:
                    for message in messages:
                        await self._pass(message)
        except RefusedError as error:
            if not self._streams:
                raise
            told = event(body(error)).encode()
            await self._send({"type": "http.response.body", "body": told, "more_body": False})

    async def _pass(self, message: Message) -> None:
        if message["type"] == TOLD:
            self._told.update(message["told"])
            return
        if message["type"] == "http.response.start":
            self._streams = any(
                key == b"content-type" and b"event-stream" in value for key, value in message["headers"]
            )
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self._streams, self.ended = False, True
        await self._send(message)
