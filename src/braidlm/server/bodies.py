"""Bodies of requests, refused while they come: of another kind than JSON, too long, too deep, of too many values.

Parsing keeps Python's lock and the event loop, and what a body is checked against may cost more for each value than the
value itself. So a body is looked over piece by piece before it is parsed.
"""

import re
from collections.abc import Callable
from itertools import accumulate

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import RefusedError, reply

# Python's own reader of JSON gives up at about a thousand. A schema of a schema has some tens.
_DEPTH = 200
_VALUES = 1 << 19
# Bodies of requests on their way may have so many times the bytes that one may have.
_BODIES = 16

_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_STEP = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


class JsonBounds:
    """Depth and number of values of a JSON text that comes in pieces; both as upper bounds if it is none."""

    def __init__(self) -> None:
        self._in_string = self._in_escape = False
        self._depth = self._values = 0

    def look_over(self, piece: bytes) -> None:
        """Takes a piece; `RefusedError` beyond the bounds."""
        outside = self._outside_strings(piece)
        self._values += sum(map(outside.count, (b",", b"[", b"{")))
        if self._values > _VALUES:
            raise RefusedError(413, f"the body has more than {_VALUES} values", code="body_too_large")
        depths = [*accumulate(map(_STEP.__getitem__, _BRACKET.findall(outside)), initial=self._depth)]
        self._depth = depths[-1]
        if max(depths) > _DEPTH:
            raise RefusedError(400, f"the body is nested more than {_DEPTH} deep", code="invalid_json")

    def _outside_strings(self, piece: bytes) -> bytes:
        if self._in_escape:
            piece = piece[1:]
        piece = _ESCAPED.sub(b"", piece)
        self._in_escape = piece.endswith(b"\\")
        parts = piece.split(b'"')
        outside = b"".join(parts[self._in_string :: 2])
        self._in_string ^= len(parts) % 2 == 0
        return outside


class Bodies:
    """Middleware that bounds the bodies of requests."""

    def __init__(self, app: ASGIApp, most: Callable[[], int]) -> None:
        """`most` says how many bytes a body may have."""
        self._app = app
        self._most = most
        self._held = 0  # bytes of bodies of all requests on their way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most, bounds, seen = self._most(), JsonBounds(), 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            piece = message.get("body", b"")
            seen += len(piece)
            self._held += len(piece)
            try:
                self._require(seen, most)
                bounds.look_over(piece)
            except RefusedError as error:  # which who reads the body would hide
                raise HTTPException(error.status, str(error), _retry(error)) from None
            return message

        try:
            _require_json(scope)
            self._require(_declared_length(scope), most)
        except RefusedError as error:
            await reply(error)(scope, receive, send)
            return
        try:
            await self._app(scope, counted, send)
        finally:
            self._held -= seen

    def _require(self, size: int, most: int) -> None:
        if size > most:
            raise RefusedError(413, f"the body has more than {most} bytes", code="body_too_large")
        if self._held + size > _BODIES * most:
            raise RefusedError(503, "too many long requests are on their way; try again soon", code="busy", wait=1)


def _retry(error: RefusedError) -> dict[str, str]:
    return {} if error.wait is None else {"Retry-After": str(error.wait)}


def _declared_length(scope: Scope) -> int:
    """Number of bytes that a body says it has; 0 if it does not say."""
    length = Headers(scope=scope).get("content-length", "0")
    return int(length[:20]) if length.isascii() and length.isdigit() else 0


def _require_json(scope: Scope) -> None:
    """Refuses a body that says that it is something else, as that of curl and of forms does."""
    headers = Headers(scope=scope)
    if not (_declared_length(scope) or "transfer-encoding" in headers):
        return
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not re.fullmatch(r"application/[^ ]*\+json", kind):
        said = f"is said to be of type {kind[:100]}" if kind else "has no content type"
        raise RefusedError(
            415, f"the body {said}; send it as JSON with the header Content-Type: application/json",
            code="unsupported_media_type",
        )  # fmt: skip
