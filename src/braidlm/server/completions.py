"""`POST /v1/completions`: completions of prompts."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from itertools import accumulate

from fastapi import APIRouter, Request, Response

from ..engine import Request as Prompt
from ..engine import RequestHandle
from ..generation.continuation import Token
from .echo import echoed, scored
from .errors import RefusedError
from .host import Served, ServedModel
from .replies import CompletionChoice, CompletionLogprobs, CompletionReply
from .requests import MAX_N, CompletionRequest
from .response_parts import Events, log_request, logprob_of, now, reason_of, streamed, usage_of, whole
from .stream_chunks import Answer, Made

router = APIRouter(tags=["OpenAI API"])

_USUAL = 16


@router.post("/v1/completions", response_model=CompletionReply)
async def completions(body: CompletionRequest, request: Request, served: ServedModel) -> CompletionReply | Response:
    """Completes a text or token ids, or several of them. With `stream`, server-sent events."""
    served.adapter_key_of(body.model)
    handles = await asyncio.to_thread(_submitted, body, served, request.state.client)
    answer = served.answer(handles, _nothing)
    log_request(request, handles, body.prompt if served.settings.log_prompts else None)
    name = f"cmpl-{secrets.token_hex(12)}"
    if body.stream:
        return streamed(request, answer, _events(body, served, answer, name))
    made, texts = await whole(request, answer), _Texts(body, served, answer)
    # Prompts may be long: others are answered meanwhile.
    choices = await asyncio.to_thread(lambda: [texts.choice(index, tokens) for index, tokens in enumerate(made)])
    return CompletionReply(
        id=name, created=now(), model=body.model or served.settings.name, choices=choices, usage=usage_of(answer)
    )


def _submitted(body: CompletionRequest, served: Served, client: str) -> list[RequestHandle]:
    """Handles of the submitted prompts, of all of them or of none."""
    _check(body, served)
    prompts, (adapter, initial) = served.ids_of(body.prompt), served.adapter_key_of(body.model)
    if len(prompts) * body.n > MAX_N:
        raise RefusedError(400, f"{len(prompts)} prompts and n {body.n} are more than {MAX_N} texts", param="n")
    most = _USUAL if body.max_tokens is None else body.max_tokens
    sampling = body.sampling(max(1, most), body.logprobs or 0)
    handles: list[RequestHandle] = []
    try:
        for ids in prompts:
            prompt = Prompt(
                ids=ids, sampling=sampling, n=body.n, client=served.settings.share(client, body.user),
                cache_salt=served.settings.cache_salt(client), adapter=adapter, initial=initial,
                prompt_logprobs=body.logprobs if body.echo else None, generates=most > 0,
            )  # fmt: skip
            handles.append(served.engine.submit(prompt))
    except Exception:
        for handle in handles:
            handle.cancel()
        raise
    return handles


def _check(body: CompletionRequest, served: Served) -> None:
    """Refuses what no completion can be."""
    if body.max_tokens == 0 and not body.echo:
        raise RefusedError(400, "max_tokens is 0, which needs echo; it must be at least 1", param="max_tokens")
    if body.best_of not in (None, body.n):
        raise RefusedError(
            400, f"best_of is {body.best_of}, but n is {body.n}: all that is written is given", param="best_of"
        )
    if body.echo or body.logprobs is not None:
        _ = served.tokenizer  # refuses if there is none


def _nothing(_: Made) -> None:
    """Does nothing: a completion is not stored."""


class _Texts:
    """Texts of one request for the client: behind their prompts and with log probabilities, if that was asked for."""

    def __init__(self, body: CompletionRequest, served: Served, answer: Answer) -> None:
        self._body = body
        self._served = served
        self._handles = answer.handles
        self._prompts: dict[int, list[Token]] = {}

    def choice(self, index: int, tokens: Sequence[Token]) -> CompletionChoice:
        """Text number `index`, whole."""
        prompt = self.prompt(index) if self._body.echo else []
        shown = [*prompt, *tokens]
        return CompletionChoice(
            index=index,
            text="".join(token.text for token in shown),
            logprobs=self.logprobs(shown, 0, bool(prompt)),
            finish_reason=reason_of(tokens),
        )

    def prompt(self, index: int) -> list[Token]:
        """Tokens of the prompt of text number `index`, with their log probabilities."""
        number = index // self._body.n
        if number not in self._prompts:
            handle, given = self._handles[number], self._body.prompt
            text = given[number] if isinstance(given, list) and isinstance(given[0], str) else given
            tokens = echoed(self._served.tokenizer, handle.request.ids, text if isinstance(text, str) else None)
            wants_logprobs = self._body.logprobs is not None
            self._prompts[number] = scored(tokens, handle.prompt_logprobs) if wants_logprobs else tokens
        return self._prompts[number]

    def logprobs(self, tokens: Sequence[Token], offset: int, begins: bool) -> CompletionLogprobs | None:
        """Log probabilities of tokens whose text is at `offset`, if asked for; the first of a prompt has none."""
        if self._body.logprobs is None:
            return None
        found = [logprob_of(self._served.tokenizer, token) for token in tokens]
        begin_of = accumulate((len(token.text) for token in tokens), initial=offset)
        without = int(begins)
        # Of tokens that are no whole characters, and so look alike, the most likely one.
        tops = [{top.token: top.logprob for top in reversed(item.top_logprobs)} for item in found[without:]]
        return CompletionLogprobs(
            tokens=[item.token for item in found],
            token_logprobs=[*[None] * without, *(item.logprob for item in found[without:])],
            top_logprobs=[*[None] * without, *tops],
            text_offset=list(begin_of)[: len(tokens)],
        )


async def _events(body: CompletionRequest, served: Served, answer: Answer, name: str) -> AsyncIterator[str]:
    """Completions as server-sent events."""
    events = Events("text_completion", name, body.model or served.settings.name, answer, body.wants_usage)
    texts = _Texts(body, served, answer)
    written = [0] * len(answer.made)
    waiting = set(range(len(answer.made))) if body.echo else set()

    def chunk(index: int, tokens: Sequence[Token], begins: bool = False) -> str:
        text = "".join(token.text for token in tokens)
        logprobs = texts.logprobs(tokens, written[index], begins)
        written[index] += len(text)
        shown = logprobs and logprobs.model_dump()
        return events.chunk(index, {"text": text}, shown) if text or shown else ""

    async def prompt(index: int) -> str:
        waiting.discard(index)
        return await asyncio.to_thread(lambda: chunk(index, texts.prompt(index), begins=True))

    async for index, token in answer:
        if index in waiting:
            yield await prompt(index)
        if text := chunk(index, [token]):
            yield text
    for index in sorted(waiting):
        yield await prompt(index)
    for index, tokens in enumerate(answer.made):
        yield events.chunk(index, {"text": ""}, reason=reason_of(tokens))
    for text in events.end():
        yield text
