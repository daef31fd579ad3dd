"""`/v1/sessions`: stored conversations."""

import asyncio
import secrets
import time
from typing import Any

from fastapi import APIRouter, Request

from ..sessions import Session, SessionSummary
from .host import ServedModel
from .replies import SessionDeleted, SessionList, SessionReply, SessionWhole, UnreadableSession
from .requests import ForkRequest, NewSession
from .tools import for_client, for_template

router = APIRouter(prefix="/v1/sessions", tags=["Sessions"])


@router.get("")
async def list_sessions(request: Request, served: ServedModel) -> SessionList:
    """All sessions, those changed last first; and the names of those that cannot be read."""
    prefix = served.prefix_of(request)
    found = await asyncio.to_thread(served.sessions.listing)
    bad = [(name.removeprefix(prefix), reason) for name, reason in found.unreadable if name.startswith(prefix)]
    return SessionList(
        data=[_reply(summary, prefix) for summary in found.sessions if summary.name.startswith(prefix)],
        unreadable=[UnreadableSession(id=id, reason=reason) for id, reason in bad],
    )


@router.post("", status_code=201)
async def create(body: NewSession, request: Request, served: ServedModel) -> SessionReply:
    """A new session; its messages may be of anybody's making."""
    name = served.name_of(request, body.id or _new())
    moment = time.time()
    session = Session(for_template(body.messages), created=moment, updated=moment)
    await asyncio.to_thread(served.sessions.require_new, name)
    async with served.session_cache.reserved(name):
        await asyncio.to_thread(served.create_session, name, session)
        return await _about(request, served, name)


@router.get("/{id}")
async def get(id: str, request: Request, served: ServedModel) -> SessionWhole:
    """One session with its messages."""
    name = served.name_of(request, id)
    await served.session_cache.free(name)
    summary = await asyncio.to_thread(served.sessions.summary, name)
    shown = _reply(summary, served.prefix_of(request)).model_dump()
    return SessionWhole(**{**shown, "messages": [for_client(message) for message in summary.messages]})


@router.delete("/{id}")
async def delete(id: str, request: Request, served: ServedModel) -> SessionDeleted:
    """Removes a session for good."""
    name = served.name_of(request, id)
    async with served.session_cache.reserved(name):
        await asyncio.to_thread(served.delete_session, name)
    return SessionDeleted(id=id)


@router.post("/{id}/fork", status_code=201)
async def fork(id: str, body: ForkRequest, request: Request, served: ServedModel) -> SessionReply:
    """A new session that begins as this one does."""
    name, new = served.name_of(request, id), served.name_of(request, body.id or _new())
    await asyncio.to_thread(served.sessions.require_new, new)
    await served.session_cache.free(name)
    async with served.session_cache.reserved(new):
        await asyncio.to_thread(served.chats.fork, name, new, body.keep)
        return await _about(request, served, new)


async def _about(request: Request, served: ServedModel, name: str) -> SessionReply:
    return _reply(await asyncio.to_thread(served.sessions.summary, name), served.prefix_of(request))


def _reply(summary: SessionSummary, prefix: str) -> SessionReply:
    shown: dict[str, Any] = {**summary._asdict(), "messages": len(summary.messages)}
    return SessionReply(id=shown.pop("name").removeprefix(prefix), **shown)


def _new() -> str:
    return f"s-{secrets.token_hex(8)}"
