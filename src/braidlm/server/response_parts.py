"""Parts of responses: usage, log fields, log probabilities, server-sent events, and clients that leave."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive

from ..engine import RequestHandle
from ..generation.continuation import Token
from ..text.tokenizer import Tokenizer
from .errors import RefusedError, body, log_failure
from .replies import PromptDetails, TokenLogprob, TopLogprob, UsageReply
from .stream_chunks import Answer, Made


def usage_of(answer: Answer) -> UsageReply:
    """Usage of an answer."""
    usages = [handle.usage for handle in answer.handles if handle.usage is not None]
    read = sum(len(handle.request.ids) for handle in answer.handles)
    written = sum(map(len, answer.made))
    details = PromptDetails(
        cached_tokens=sum(usage.cached for usage in usages),
        recomputed_tokens=sum(usage.recomputed for usage in usages),
        computed_tokens=sum(usage.computed for usage in usages),
        why="; ".join(dict.fromkeys(usage.why for usage in usages)),
    )
    return UsageReply(
        prompt_tokens=read, completion_tokens=written, total_tokens=read + written, prompt_tokens_details=details
    )


def log_request(request: Request, handles: Sequence[RequestHandle], prompts: Any = None) -> None:
    """Adds a request's prompt tokens to its log fields, and its prompts if they are given."""
    fields = request.state.log_fields
    fields["prompt_tokens"] = sum(len(handle.request.ids) for handle in handles)
    if prompts is not None:
        fields["prompts"] = prompts


def log_answer(request: Request, answer: Answer) -> None:
    """Adds an answer's usage and time to its request's log fields."""
    usage = usage_of(answer)
    details = usage.prompt_tokens_details
    request.state.log_fields.update(
        cached=details.cached_tokens, recomputed=details.recomputed_tokens, computed=details.computed_tokens,
        generated_tokens=usage.completion_tokens, first_token_seconds=round(answer.first or 0.0, 4),
    )  # fmt: skip


def logprob_of(tokenizer: Tokenizer, token: Token) -> TokenLogprob:
    """The log probability of a token, among the most likely ones."""
    top = [_top(tokenizer, other, logprob) for other, logprob in token.top]
    chosen = _top(tokenizer, token.id, token.logprob)
    return TokenLogprob(token=chosen.token, logprob=chosen.logprob, bytes=chosen.bytes, top_logprobs=top)


def _top(tokenizer: Tokenizer, token: int, logprob: float) -> TopLogprob:
    text = tokenizer.decode([token], skip_special=False)
    spelled = None if "\ufffd" in text else list(text.encode())
    # JSON has no infinity: what a rule made impossible is shown as very unlikely.
    return TopLogprob(token=text, logprob=max(logprob, -9999.0), bytes=spelled)


def reason_of(tokens: Sequence[Token]) -> Any:
    """Finish reason of a sequence; "length" for one that a closing server cut off."""
    return (tokens[-1].finish if tokens else None) or "length"


class Events:
    """Server-sent events of one answer: its chunks, and its end."""

    def __init__(self, kind: str, name: str, model: str, answer: Answer, wants_usage: bool) -> None:
        """`kind` and `name` are the chunks' object and id."""
        self._head = {"id": name, "object": kind, "created": now(), "model": model}
        self._answer = answer
        self._wants_usage = wants_usage

    def chunk(self, index: int, content: dict[str, Any], logprobs: Any = None, reason: str | None = None) -> str:
        """Chunk of sequence number `index`."""
        choice = {"index": index, **content, "logprobs": logprobs, "finish_reason": reason}
        return event({**self._head, "choices": [choice], **({"usage": None} if self._wants_usage else {})})

    def end(self) -> Iterator[str]:
        """Events after the last chunk: the usage, if it is wanted, and the end."""
        if self._wants_usage:
            yield event({**self._head, "choices": [], "usage": usage_of(self._answer).model_dump()})
        yield "data: [DONE]\n\n"


def event(data: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=True)}\n\n"


def streamed(request: Request, answer: Answer, events: AsyncIterator[str]) -> StreamingResponse:
    """`events` as a response; an error on the way is its last event, and a client that leaves stops `answer`."""

    async def guarded() -> AsyncIterator[str]:
        try:
            async for text in events:
                yield text
        except Exception as error:
            log_failure(error)
            yield event(body(error))
        finally:
            answer.cancel()
            log_answer(request, answer)

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(guarded(), media_type="text/event-stream", headers=headers)


async def whole(request: Request, answer: Answer) -> Made:
    """Tokens of an answer, once it has ended; it is stopped if the client leaves before."""
    reading = asyncio.create_task(answer.whole())
    leaving = asyncio.create_task(gone(request.receive))
    try:
        await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise RefusedError(499, "the client has left")
        return await reading
    finally:
        answer.cancel()
        reading.cancel()
        leaving.cancel()
        log_answer(request, answer)


async def gone(receive: Receive) -> None:
    """Waits until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())
