"""Connections of clients, within bounds: of header bytes and fields, of time, and of their number.

uvicorn's protocol over h11 parses and answers; here is what it leaves to a proxy in front. A request has one deadline,
from the first wait for it to its last byte. A client that takes nothing of its answer is cut off. Where there are too
many connections, those whose clients have been silent longest make room; where all of them are being answered, only a
supervisor is (`/health` and the like).
"""

import asyncio
import heapq
import itertools
import sys
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import RefusedError, reply

# Bytes of a request's line and header fields together, and number of fields.
HEADER_BYTES, _FIELDS = 32 << 10, 100
# A body may come in so many pieces, and in one more for each so many bytes: each costs the event loop some time.
_PIECES, _PIECE_BYTES = 4096, 64
# Beyond the bound on connections so many more are taken, so that a supervisor gets its answer.
_RESERVE = 32
_TURNS = itertools.count()
SUPERVISED = ("/health", "/ready", "/metrics")


class Bounds(NamedTuple):
    """Bounds on connections.

    connections: how many there may be. arriving: seconds until a whole request must have come. taking: seconds in
    which a client that is behind must take some of its answer. idle: seconds between two requests.
    """

    connections: int
    arriving: float
    taking: float = 60
    idle: float = 30


def protocol_of(bounds: Bounds) -> Callable[..., asyncio.Protocol]:
    """Factory of the protocol of each connection, for uvicorn."""
    return partial(Connection, bounds)


class _Parser(h11.Connection):
    """h11's parser of requests, which bounds the bytes of a header, with bounds on fields and on pieces of bodies."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEADER_BYTES)
        self._pieces = self._bytes = 0

    def next_event(self) -> Any:
        """The next part of a request; `RemoteProtocolError` beyond the bounds."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
            if len(event.headers) > _FIELDS:
                raise h11.RemoteProtocolError(f"more than {_FIELDS} header fields", error_status_hint=431)
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > _PIECES + self._bytes // _PIECE_BYTES:
                raise h11.RemoteProtocolError("the body comes in too small pieces")
        return event

    @property
    def arriving(self) -> bool:
        """Whether a request has begun to come and has not come as a whole."""
        return self.their_state is h11.SEND_BODY or (self.their_state is h11.IDLE and bool(self.trailing_data[0]))


class Connection(H11Protocol):
    """Connection of a client, within bounds."""

    def __init__(self, bounds: Bounds, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn: _Parser = _Parser()
        self._bounds = bounds
        self._deadline: asyncio.TimerHandle | None = None
        self._behind: asyncio.TimerHandle | None = None
        self._turn = 0  # larger, the later its client was last heard of

    @property
    def waits(self) -> bool:
        """Whether no request of the client is being answered."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return not answering or self.conn.their_state is h11.SEND_BODY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when a client has connected."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._arm()
        if len(self.connections) > self._bounds.connections:
            self._make_room()

    def _make_room(self) -> None:
        """Cuts off connections, of too many."""
        others = [c for c in self.connections if c is not self and not c.transport.is_closing()]
        if len(others) < self._bounds.connections:
            return
        waiting = [c for c in others if isinstance(c, Connection) and c.waits]
        if waiting:
            # Several at once, since each look over all of them costs the event loop some time.
            for connection in heapq.nsmallest(1 + len(others) // 32, waiting, key=lambda c: c._turn):
                connection.end("too many connections", 503)
        elif len(others) < self._bounds.connections + _RESERVE:
            self.app = _Supervised(self.app)
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the client has left or was cut off."""
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called when a part of a request has come."""
        at = 0
        while at < len(data) and not self.transport.is_closing():
            # h11 looks at a header's length only where it is not whole.
            size = HEADER_BYTES if self.conn.their_state is h11.IDLE else len(data)
            super().data_received(data[at : at + size])
            at += size
        self._settle()

    def on_response_complete(self) -> None:
        """Called when a response has been sent."""
        super().on_response_complete()
        self._turn = next(_TURNS)
        self._settle()

    def _settle(self) -> None:
        """Begins or ends the time in which a request must come."""
        if not self.conn.arriving or self.transport.is_closing():
            self._disarm()
        elif self._deadline is None:
            self._arm()

    def _arm(self) -> None:
        self._turn = next(_TURNS)
        self._deadline = self.loop.call_later(self._bounds.arriving, self._overdue)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _overdue(self) -> None:
        self.end(f"the request has not come as a whole within {self._bounds.arriving:g} s", 408)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, or beyond the bounds; called while h11's error is handled."""
        error = sys.exception()
        status = getattr(error, "error_status_hint", 400)
        why = f"the header has more than {HEADER_BYTES} bytes" if "too long" in str(error) else str(error or msg)
        self.end(f"this request is refused: {why}", status)

    def end(self, why: str, status: int) -> None:
        """Closes the connection; answers with the reason if a request is under way without a response."""
        self._disarm()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whoever reads the body or answers is done
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and (self.conn.arriving or status != 408):
            self._say(RefusedError(status, why, wait=1 if status == 503 else None))
        self.transport.close()
        self.loop.call_later(self._bounds.taking, self.transport.abort)  # if the client does not take it

    def _say(self, error: RefusedError) -> None:
        response = reply(error)
        headers, reason = [*response.raw_headers, (b"connection", b"close")], HTTPStatus(error.status).phrase
        begin = h11.Response(status_code=error.status, headers=headers, reason=reason.encode())
        for event in (begin, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def pause_writing(self) -> None:
        """Called when the client does not take what it is sent."""
        super().pause_writing()
        if self._behind is None:
            self._behind = self.loop.call_later(self._bounds.taking, self.transport.abort)

    def resume_writing(self) -> None:
        """Called when the client has taken most of what it was sent."""
        if self._behind is not None:
            self._behind.cancel()
            self._behind = None
        super().resume_writing()


class _Supervised:
    """Application that answers a supervisor alone."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        scope["headers"].append((b"connection", b"close"))  # uvicorn closes after its answer
        refused = reply(RefusedError(503, "there are too many connections; try again soon", code="busy", wait=1))
        await (self._app if scope["path"] in SUPERVISED else refused)(scope, receive, send)
