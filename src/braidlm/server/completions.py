"""`POST /v1/completions`: texts that go on from prompts."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request, Response

from ..continuation import Token
from ..engine import Request as Prompt
from ..engine import Ticket
from .echo import echoed, scored
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
    choices = [_choice(index, body, here, answer, tokens) for index, tokens in enumerate(made)]
    return CompletionReply(
        id=name, created=now(), model=body.model or here.settings.name, choices=choices, usage=usage_of(answer)
    )


def _submitted(body: CompletionRequest, here: Served, client: str) -> list[Ticket]:
    """The prompts' tickets, of all of them or of none."""
    _check(body, here)
    prompts, (adapter, initial) = here.ids_of(body.prompt), here.variant_of(body.model)
    if len(prompts) * body.n > MOST_COPIES:
        raise RefusedError(400, f"{len(prompts)} prompts and n {body.n} are more than {MOST_COPIES} texts", param="n")
    most = _USUAL if body.max_tokens is None else body.max_tokens
    sampling = body.sampling(max(1, most), body.logprobs or 0)
    tickets: list[Ticket] = []
    try:
        for ids in prompts:
            prompt = Prompt(
                ids=ids, sampling=sampling, copies=body.n, client=client, adapter=adapter, initial=initial,
                prompt_logprobs=body.logprobs if body.echo else None, generates=most > 0,
            )  # fmt: skip
            tickets.append(here.engine.submit(prompt))
    except Exception:
        for ticket in tickets:
            ticket.cancel()
        raise
    return tickets


def _check(body: CompletionRequest, here: Served) -> None:
    """Refuses what no completion can be."""
    if body.max_tokens == 0 and not body.echo:
        raise RefusedError(400, "max_tokens is 0, which needs echo; it must be at least 1", param="max_tokens")
    if body.best_of not in (None, body.n):
        raise RefusedError(
            400, f"best_of is {body.best_of}, but n is {body.n}: all that is written is given", param="best_of"
        )
    if body.echo:
        _ = here.tokenizer  # refuses if there is none


def _nothing(_: Made) -> None:
    """Nothing is kept of a completion but what the engine remembers."""


def _choice(
    index: int, body: CompletionRequest, here: Served, answer: Answer, tokens: Sequence[Token]
) -> CompletionChoice:
    """Text number `index`, after its prompt if that was asked for."""
    prompt = _prompt(index, body, here, answer)
    shown = [*prompt, *tokens]
    return CompletionChoice(
        index=index,
        text="".join(token.text for token in shown),
        logprobs=_logprobs(here, shown, 0, bool(prompt)) if body.logprobs is not None else None,
        finish_reason=reason_of(tokens),
    )


def _prompt(index: int, body: CompletionRequest, here: Served, answer: Answer) -> list[Token]:
    """The tokens of the prompt of text number `index`, if they are to be shown; with what the engine told of them."""
    if not body.echo:
        return []
    number = index // body.n
    ticket, several = answer.tickets[number], isinstance(body.prompt, list) and isinstance(body.prompt[0], str)
    text = body.prompt[number] if several else body.prompt
    tokens = echoed(here.tokenizer, ticket.request.ids, text if isinstance(text, str) else None)
    return scored(tokens, ticket.prompt_logprobs) if body.logprobs is not None else tokens


def _logprobs(here: Served, tokens: Sequence[Token], offset: int, begins: bool) -> CompletionLogprobs:
    """Log probabilities of tokens whose text begins at `offset`; the first token of a text that `begins` has none."""
    found = [logprob_of(here.tokenizer, token) for token in tokens]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    without = int(begins)
    # Of tokens that are no whole characters, and so look alike, the most likely one.
    tops = [{top.token: top.logprob for top in reversed(item.top_logprobs)} for item in found[without:]]
    return CompletionLogprobs(
        tokens=[item.token for item in found],
        token_logprobs=[*[None] * without, *(item.logprob for item in found[without:])],
        top_logprobs=[*[None] * without, *tops],
        text_offset=offsets,
    )


async def _events(body: CompletionRequest, here: Served, answer: Answer, name: str) -> AsyncIterator[str]:
    """Completions as server-sent events."""
    events = Events("text_completion", name, body.model or here.settings.name, answer, body.wants_usage)
    written = [0] * len(answer.made)
    waiting = set(range(len(answer.made))) if body.echo else set()

    def chunk(index: int, tokens: Sequence[Token], begins: bool = False) -> str:
        logprobs, text = None, "".join(token.text for token in tokens)
        if body.logprobs is not None:
            logprobs = _logprobs(here, tokens, written[index], begins).model_dump()
        written[index] += len(text)
        return events.chunk(index, {"text": text}, logprobs) if text or logprobs else ""

    def prompt(index: int) -> str:
        waiting.discard(index)
        return chunk(index, _prompt(index, body, here, answer), begins=True)

    async for index, token in answer:
        if index in waiting:
            yield prompt(index)
        if text := chunk(index, [token]):
            yield text
    for index in sorted(waiting):
        yield prompt(index)
    for index, tokens in enumerate(answer.made):
        yield events.chunk(index, {"text": ""}, reason=reason_of(tokens))
    for text in events.end():
        yield text
