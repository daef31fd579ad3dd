"""`POST /v1/completions`: texts that go on from prompts."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request, Response

from ..continuation import Token
from ..engine import Request as Prompt
from ..engine import Ticket
from .errors import RefusedError
from .host import Here, Served
from .pieces import Answer, Made
from .replies import CompletionChoice, CompletionLogprobs, CompletionReply
from .requests import MOST_COPIES, CompletionRequest
from .writing import Events, logprob_of, now, reason_of, streamed, told, usage_of, whole

router = APIRouter(tags=["OpenAI API"])

_USUAL = 16


@router.post("/v1/completions", response_model=CompletionReply)
async def completions(body: CompletionRequest, request: Request, here: Here) -> CompletionReply | Response:
    """Goes on from a text or token ids, or from several of them. With `stream`, server-sent events."""
    here.variant_of(body.model)
    client = f"{request.state.client} {body.user or ''}"
    tickets = await asyncio.to_thread(_submitted, body, here, client)
    answer = here.answer(tickets, _nothing)
    told(request, tickets, body.prompt if here.settings.log_prompts else None)
    name = f"cmpl-{secrets.token_hex(12)}"
    if body.stream:
        return streamed(request, answer, _events(body, here, answer, name))
    made = await whole(request, answer)
    choices = [
        CompletionChoice(
            index=index,
            text="".join(token.text for token in tokens),
            logprobs=_logprobs(here, tokens, 0) if body.logprobs is not None else None,
            finish_reason=reason_of(tokens),
        )
        for index, tokens in enumerate(made)
    ]
    return CompletionReply(
        id=name, created=now(), model=body.model or here.settings.name, choices=choices, usage=usage_of(answer)
    )


def _submitted(body: CompletionRequest, here: Served, client: str) -> list[Ticket]:
    """The prompts' tickets, of all of them or of none."""
    prompts, (adapter, initial) = here.ids_of(body.prompt), here.variant_of(body.model)
    if len(prompts) * body.n > MOST_COPIES:
        raise RefusedError(400, f"{len(prompts)} prompts and n {body.n} are more than {MOST_COPIES} texts", param="n")
    sampling = body.sampling(body.max_tokens or _USUAL, body.logprobs or 0)
    tickets: list[Ticket] = []
    try:
        for ids in prompts:
            prompt = Prompt(ids=ids, sampling=sampling, copies=body.n, client=client, adapter=adapter, initial=initial)
            tickets.append(here.engine.submit(prompt))
    except Exception:
        for ticket in tickets:
            ticket.cancel()
        raise
    return tickets


def _nothing(_: Made) -> None:
    """Nothing is kept of a completion but what the engine remembers."""


def _logprobs(here: Served, tokens: Sequence[Token], offset: int) -> CompletionLogprobs:
    """Log probabilities of tokens whose text begins at `offset`."""
    found = [logprob_of(here.tokenizer, token) for token in tokens]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return CompletionLogprobs(
        tokens=[item.token for item in found],
        token_logprobs=[item.logprob for item in found],
        top_logprobs=[{top.token: top.logprob for top in item.top_logprobs} for item in found],
        text_offset=offsets,
    )


async def _events(body: CompletionRequest, here: Served, answer: Answer, name: str) -> AsyncIterator[str]:
    """Completions as server-sent events."""
    events = Events("text_completion", name, body.model or here.settings.name, answer, body.wants_usage)
    written = [0] * len(answer.made)
    async for index, token in answer:
        logprobs = None
        if body.logprobs is not None:
            logprobs = _logprobs(here, [token], written[index]).model_dump()
        written[index] += len(token.text)
        if token.text or logprobs:
            yield events.chunk(index, {"text": token.text}, logprobs)
    for index, tokens in enumerate(answer.made):
        yield events.chunk(index, {"text": ""}, reason=reason_of(tokens))
    for text in events.end():
        yield text
