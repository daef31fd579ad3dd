"""Errors as clients of the OpenAI API expect them: a status, and one sentence with a kind and a code."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ..engine import QueueFullError
from ..errors import BraidError, BusyError, ContextLengthError, UnavailableError, shortened
from ..sessions import NoSessionError, SessionChangedError, SessionExistsError
from .fields import UNKNOWN, UNSERVED

log = logging.getLogger("braidlm.server")

# What pydantic says in words of Python.
_WORDS = dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "Input should be an object")

_KINDS = {401: "authentication_error", 404: "not_found_error", 409: "conflict_error", 429: "rate_limit_error"}


class RefusedError(BraidError):
    """Refusal of a request with an HTTP status; `wait` is after how many seconds to try again."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, wait: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.wait = wait


def install(app: FastAPI) -> None:
    """Installs handlers that answer every error of an application in this form."""

    async def answer(_: Request, error: Exception) -> Response:
        return reply(error)

    for kind in (RequestValidationError, HTTPException, BraidError, Exception):
        app.add_exception_handler(kind, answer)


def reply(error: Exception) -> Response:
    """The answer to a request that ended in `error`."""
    refused = refusal(error)
    headers = {"Retry-After": str(refused.wait)} if refused.wait is not None else {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, HTTPException) and error.headers:
        headers |= error.headers
    # ASCII, since a message may quote what is no valid Unicode.
    content = json.dumps(body(error), ensure_ascii=True)
    return Response(content, refused.status, headers, media_type="application/json")


def body(error: Exception) -> dict[str, Any]:
    """The JSON that tells of `error`, alone or within a stream."""
    refused = refusal(error)
    kind = _KINDS.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    error_fields = {
        "message": str(refused),
        "type": kind,
        "param": refused.param and shortened(refused.param),
        "code": refused.code,
    }
    return {"error": error_fields}


def refusal(error: Exception) -> RefusedError:
    """Refusal, with status and sentence, that an error is answered with."""
    match error:
        case RefusedError():
            return error
        case RequestValidationError():
            return _of_fields(error.errors(), error.body)
        case HTTPException():
            return RefusedError(error.status_code, str(error.detail))
        case QueueFullError():
            return RefusedError(429, str(error), code="queue_full", wait=1)
        case BusyError():
            return RefusedError(429, str(error), code="busy", wait=1)
        case ContextLengthError():
            return RefusedError(400, str(error), code="context_length_exceeded")
        case UnavailableError():
            return RefusedError(501, str(error), code="unavailable")
        case NoSessionError():
            return RefusedError(404, str(error), code="session_not_found")
        case SessionExistsError():
            return RefusedError(409, str(error), code="session_exists")
        case SessionChangedError():
            return RefusedError(409, str(error), code="session_changed")
        case BraidError():
            return RefusedError(400, str(error))
        case _:
            return RefusedError(500, f"the request failed: {type(error).__name__}: {error}", code="internal_error")


def log_failure(error: Exception) -> None:
    """Logs an error that is a fault of the server."""
    if refusal(error).status == 500:
        log.error("a request failed", exc_info=error)


def _of_fields(errors: Sequence[Mapping[str, Any]], body: Any) -> RefusedError:
    """The most telling of a body's faults in one sentence."""
    first = min(errors, key=_rank)
    place = _place(first, body)
    field = first.get("ctx", {}).get("field")
    name = ".".join([*place, *([] if field is None else [field])])
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", first["msg"])
        return RefusedError(400, f"the body is no valid JSON: {reason}", code="invalid_json")
    said = _WORDS.get(first["type"], str(first["msg"]).removeprefix("Value error, "))
    if first["type"] == UNKNOWN:
        meant = f"; did you mean {'.'.join([*place, said])!r}?" if said else ""
        return RefusedError(400, f"the field {name!r} is unknown{meant}", code="unknown_parameter", param=name or None)
    if first["type"] == UNSERVED and field is not None:
        sentence = f"the field {name!r} is not supported here: {said}"
        return RefusedError(400, sentence, code="unsupported_parameter", param=name)
    code = "unsupported_value" if first["type"] == UNSERVED else "invalid_value"
    return RefusedError(400, f"{name or 'the body'}: {said}", code=code, param=name or None)


def _rank(error: Mapping[str, Any]) -> tuple[bool, int]:
    """Order of faults: braidlm's own come first; of a value of several types, the one farthest inside says most."""
    return error["type"] not in (UNKNOWN, UNSERVED), -len(error["loc"])


def _place(error: Mapping[str, Any], body: Any) -> list[str]:
    """Path in the body to an error, without the names of types among which there was a choice."""
    found: list[str] = []
    parts = error["loc"][1:]
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        # Of a response format, say: its kind's name comes before the field of the same name.
        kind = isinstance(part, str) and not last and parts[number + 1] == part
        if _is_in(part, body) and not kind:
            body = body[part]
        elif not (last and error["type"] == "missing"):
            continue
        found.append(str(part))
    return found


def _is_in(part: str | int, body: Any) -> bool:
    if isinstance(body, list):
        return isinstance(part, int) and part < len(body)
    return isinstance(body, dict) and part in body
