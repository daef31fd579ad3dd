"""`POST /v1/chat/completions`: answers to messages, in sessions or without."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response

from ..engine import BASE, AdapterKey, Grammar
from ..generation.continuation import Token
from ..generation.sampling import Sampling
from ..sessions import Session, Turn
from ..text.tool_calls import Format, ToolCallReader, tokens_of
from . import tools
from .answers import Answers, DeltaWriter
from .errors import RefusedError
from .host import Served, ServedModel
from .replies import ChatChoice, ChatLogprobs, ChatReply
from .requests import ChatRequest, GrammarFormat, PlainFormat, RegexFormat, Tool
from .response_parts import Events, log_request, logprob_of, now, streamed, usage_of, whole
from .session_cache import CachedSession
from .stream_chunks import Answer, Made

router = APIRouter(tags=["OpenAI API"])


@dataclass(frozen=True)
class _Asked:
    """Chat request, checked and translated for `Chats`."""

    body: ChatRequest
    messages: list[dict[str, Any]]
    sampling: Sampling
    tools: Sequence[Tool]
    formats: Sequence[Format]
    variables: dict[str, Any]
    grammar: Grammar | None
    client: str
    cache_salt: str
    model: str
    adapter_key: AdapterKey

    def options(self) -> dict[str, Any]:
        """Options for `Chats.begin`, with the tools for the template."""
        listed = [tool.model_dump(exclude_none=True) for tool in self.tools]
        variables = self.variables | ({"tools": listed} if listed else {})
        adapter, initial = self.adapter_key
        beside = {"adapter": adapter, "initial": initial, "visible_tokens": tokens_of(self.formats) if listed else ()}
        whose = {"client": self.client, "cache_salt": self.cache_salt}
        return {"grammar": self.grammar, "variables": variables, **whose, **beside}

    def calls(self) -> ToolCallReader | None:
        """Reader of the calls in one answer; None without tools."""
        if not self.tools:
            return None
        return ToolCallReader(self.formats, tools.functions_of(self.tools), self.body.parallel_tool_calls)


class _Begun(NamedTuple):
    """Request whose answers are on their way."""

    answer: Answer
    answers: Answers


@router.post("/v1/chat/completions", response_model=ChatReply)
async def chat(body: ChatRequest, request: Request, served: ServedModel) -> ChatReply | Response:
    """Answers messages. With `stream`, server-sent events."""
    asked = _understood(body, served, request.state.client)
    if body.session is None:
        begun = await _alone(asked, served)
    else:
        begun = await _in_session(asked, served, served.name_of(request, body.session))
    answer = begun.answer
    log_request(request, answer.handles, asked.messages if served.settings.log_prompts else None)
    name = f"chatcmpl-{secrets.token_hex(12)}"
    if body.stream:
        return streamed(request, answer, _events(asked, served, begun, name))
    made = await whole(request, answer)
    choices = [_choice(index, asked, served, begun.answers, tokens) for index, tokens in enumerate(made)]
    return ChatReply(id=name, created=now(), model=asked.model, choices=choices, usage=usage_of(answer))


def _understood(body: ChatRequest, served: Served, client: str) -> _Asked:
    """Checks a request and translates it; refuses what cannot be answered."""
    adapter_key, tokenizer = served.adapter_key_of(body.model), served.chats.tokenizer
    _check(body, adapter_key, served)
    chosen = tools.tools_of(body, tokenizer)
    formats = tools.formats_for(served.settings.tool_format, tokenizer)
    call, rule = tools.rule_for(body, chosen, formats, tokenizer), _rule(body)
    if rule is not None and chosen:
        raise RefusedError(400, "an answer in a response_format cannot call tools", param="response_format")
    most = body.max_tokens or body.max_completion_tokens or served.settings.max_tokens
    sampling = body.sampling(most, body.top_logprobs)
    return _Asked(
        body, tools.for_template(body.messages), sampling, chosen, formats,
        tools.variables_of(body, tokenizer), call or rule, served.settings.share(client, body.user),
        served.settings.cache_salt(client), body.model or served.settings.name, adapter_key,
    )  # fmt: skip


def _check(body: ChatRequest, adapter_key: AdapterKey, served: Served) -> None:
    """Refuses fields that do not go together."""
    if body.session is not None and adapter_key != BASE:
        raise RefusedError(400, f"sessions are of the model itself; ask for {served.settings.name!r}", param="model")
    if body.top_logprobs and not body.logprobs:
        raise RefusedError(400, "top_logprobs needs logprobs", param="top_logprobs")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise RefusedError(400, "max_tokens and max_completion_tokens mean the same; give one", param="max_tokens")
    if body.session_keep is not None and body.session is None:
        raise RefusedError(400, "session_keep needs a session", param="session_keep")
    if body.session is not None and body.n > 1:
        raise RefusedError(400, "a session has one answer; n must be 1", param="n")
    if not body.messages and body.session is None:
        raise RefusedError(400, "there are no messages", param="messages")


def _rule(body: ChatRequest) -> Grammar | None:
    match body.response_format:
        case PlainFormat(type="text"):
            return None
        case PlainFormat():
            return Grammar.of_schema({"type": "object"})
        case RegexFormat(regex=text):
            return Grammar("regex", text)
        case GrammarFormat(grammar=text):
            return Grammar("lark", text)
        case schema:
            return Grammar.of_schema(schema.json_schema.schema_)


def _answers(asked: _Asked, served: Served, turn: Turn) -> Answers:
    return Answers(turn.splitter, asked.calls, served.chats.tokenizer.tool_template or "")


async def _alone(asked: _Asked, served: Served) -> _Begun:
    """Begins the answer to messages outside of sessions."""

    def begin() -> Turn:
        return served.chats.begin(asked.messages, asked.sampling, n=asked.body.n, **asked.options())

    def finish(made: Made) -> None:
        for tokens in made:
            served.chats.finish(Session(), turn, tokens)

    turn = await asyncio.to_thread(begin)
    return _Begun(served.answer([turn.handle], finish), _answers(asked, served, turn))


async def _in_session(asked: _Asked, served: Served, name: str) -> _Begun:
    """Begins the answer in a stored session, which is stored again before the end of the answer is sent."""
    keep = asked.body.session_keep

    def begin() -> tuple[CachedSession, Turn]:
        opened = served.session_cache.open_session(served.sessions, name, served.chats.open)
        session = opened.session
        if keep is not None and keep > len(session.messages):
            raise RefusedError(
                400, f"session_keep is {keep}, but there are {len(session.messages)} messages", param="session_keep"
            )
        messages = [*session.messages[:keep], *asked.messages]
        if not messages:
            raise RefusedError(400, "there are no messages", param="messages")
        return opened, served.chats.begin_in(session, messages, asked.sampling, name=name, **asked.options())

    def finish(made: Made) -> None:
        if not made[0]:  # stopped before anything was written: as if nothing had been said
            return
        after = served.chats.finish(opened.session, turn, made[0], answers.stored(made[0]))
        served.save_session(name, after, turn.handle.snapshots, opened.stamp)

    await served.session_cache.claim(name)
    try:
        opened, turn = await asyncio.to_thread(begin)
    except BaseException:
        served.session_cache.release(name)
        raise
    served.session_cache.began(name, lambda: turn.handle.cancelled)
    answers = _answers(asked, served, turn)
    return _Begun(served.answer([turn.handle], finish, lambda: served.session_cache.release(name)), answers)


def _choice(index: int, asked: _Asked, served: Served, answers: Answers, tokens: Sequence[Token]) -> ChatChoice:
    message, reason = answers.reply(index, tokens)
    logprobs = None
    if asked.body.logprobs:
        logprobs = ChatLogprobs(content=[logprob_of(served.tokenizer, token) for token in tokens])
    return ChatChoice(index=index, message=message, logprobs=logprobs, finish_reason=reason)


async def _events(asked: _Asked, served: Served, begun: _Begun, name: str) -> AsyncIterator[str]:
    """Server-sent events of an answer. Its end is sent once the session is stored."""
    answer, answers = begun
    events = Events("chat.completion.chunk", name, asked.model, answer, asked.body.wants_usage)

    def chunk(index: int, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None) -> str:
        return events.chunk(index, {"delta": delta}, logprobs, reason)

    writers = [DeltaWriter(answers, index) for index in range(len(answer.made))]
    for index in range(len(writers)):
        yield chunk(index, {"role": "assistant", "content": ""})
    async for index, token in answer:
        deltas, logprobs = writers[index].push(token.text), None
        if asked.body.logprobs:
            logprobs = {"content": [logprob_of(served.tokenizer, token).model_dump()]}
            deltas = deltas or [{"content": ""}]
        for delta in deltas:
            yield chunk(index, delta, logprobs)
            logprobs = None
    for index, writer in enumerate(writers):
        for delta in writer.finish():
            yield chunk(index, delta)
        yield chunk(index, {}, reason=writer.reason(answer.made[index]))
    for text in events.end():
        yield text
