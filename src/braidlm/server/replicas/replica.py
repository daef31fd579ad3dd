"""Replica: the application that serves a model, without a port of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import prometheus_client
from prometheus_client import Metric
from starlette.types import Message, Scope

from ...errors import BraidError
from ..app import unguarded
from ..host import ModelHost

log = logging.getLogger("braidlm.server")

# Type of a message beside those of ASGI: fields of a request for the frontend's log line.
LOG_FIELDS = "braidlm.log_fields"

# Makes the host on a machine that this many replicas share.
Make = Callable[[int], ModelHost]


class CannotLoadError(Exception):
    """Failure to load the model, in one sentence."""


class Replica:
    """Replica: loads a model, and answers requests that the frontend passes on."""

    def __init__(self, make: Make, share: int, name: Callable[[], str]) -> None:
        """`name` gives this replica's name in metrics."""
        logging.basicConfig(format="%(message)s", level=logging.INFO)
        prometheus_client.disable_created_metrics()
        self._name = name
        self._answering: set[asyncio.Task[None]] = set()  # a task that nobody holds may be collected
        self._host = make(share)
        self._app = unguarded(self._host)
        self._life = self._app.router.lifespan_context(self._app)

    async def begin(self) -> None:
        """Loads the model; `CannotLoadError` if that fails."""
        await self._life.__aenter__()
        await asyncio.to_thread(self._host.wait)
        if (failure := self._host.failure) is not None:
            kind = "" if isinstance(failure, BraidError) else f"{type(failure).__name__}: "
            raise CannotLoadError(kind + " ".join(str(failure).split())) from failure

    async def forward(self, _routing_key: Any, scope: Scope, body: bytes) -> AsyncIterator[list[Message]]:
        """Answers one request; yields the messages of its response, several at once if they come fast."""
        sent: asyncio.Queue[Message | None] = asyncio.Queue()
        left, log_fields = asyncio.Event(), scope["state"]["log_fields"]
        asked: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if asked:
                return asked.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def answer() -> None:
            try:
                await self._app(scope, receive, sent.put)
            except Exception as error:  # the client has been told by then
                log.error("a request failed", exc_info=error)
            sent.put_nowait({"type": LOG_FIELDS, "log_fields": log_fields})
            sent.put_nowait(None)

        task = asyncio.create_task(answer())
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        try:
            going = True
            while going:
                messages = [await sent.get()]
                while not sent.empty():
                    messages.append(sent.get_nowait())
                going = messages[-1] is not None
                yield [message for message in messages if message is not None]
        finally:  # the client has left, or all is said
            left.set()

    async def metrics(self) -> tuple[str, list[Metric]]:
        """Name and metrics of this replica."""
        return self._name(), self._host.metrics.collect()

    async def cut_answers(self) -> None:
        """Cuts all answers off."""
        await self._host.cut_answers()

    async def close(self) -> None:
        """Ends everything; what was generated is stored."""
        await self._life.__aexit__(None, None, None)

    def check_health(self) -> None:
        """Raises if this replica cannot go on: it is then replaced."""
        self._host.require_health()
