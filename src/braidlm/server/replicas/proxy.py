"""Proxy of requests to replicas."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.types import Message, Receive, Scope, Send

from ..errors import RefusedError, body
from ..response_parts import event, gone
from ..settings import Settings
from .replica import LOG_FIELDS
from .routing import RoutingKey, routing_key_of

if TYPE_CHECKING:
    from .cluster import Replicas

# Parts of a scope that a replica gets; the others are of this process.
_SCOPE = "type asgi http_version method scheme path raw_path query_string root_path headers".split()


class ReplicaProxy:
    """Proxy that passes requests to replicas, and their responses back."""

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
        routing_key = await asyncio.to_thread(
            routing_key_of, scope["path"], whole, self._settings.owner(state["client"])
        )
        answer = _Answer(state["log_fields"], send)
        slim = {key: scope[key] for key in _SCOPE if key in scope} | {
            "state": {"client": state["client"], "log_fields": {}}
        }
        passing = asyncio.create_task(answer.take(replicas, routing_key, slim, whole))
        leaving = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait((passing, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answer.ended:  # else only the log fields are still to come
                passing.cancel()
            await asyncio.wait((passing,))
        finally:
            leaving.cancel()
            passing.cancel()
        if not passing.cancelled():
            passing.result()


class _Answer:
    """Response on its way from a replica to the client."""

    def __init__(self, log_fields: dict[str, Any], send: Send) -> None:
        self._log_fields = log_fields
        self._send = send
        self._streams = False  # whether an event may still follow
        self.ended = False

    async def take(self, replicas: "Replicas", routing_key: RoutingKey, scope: Scope, body_: bytes) -> None:
        """Passes on the messages of a replica's response, and its log fields to the log."""
        try:
            async with aclosing(replicas.forward(routing_key, scope, body_)) as forward:
                async for messages in forward:
                    for message in messages:
                        await self._pass(message)
        except RefusedError as error:
            if not self._streams:
                raise
            log_fields = event(body(error)).encode()
            await self._send({"type": "http.response.body", "body": log_fields, "more_body": False})

    async def _pass(self, message: Message) -> None:
        if message["type"] == LOG_FIELDS:
            self._log_fields.update(message["log_fields"])
            return
        if message["type"] == "http.response.start":
            self._streams = any(
                key == b"content-type" and b"event-stream" in value for key, value in message["headers"]
            )
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self._streams, self.ended = False, True
        await self._send(message)
