"""Cache of stored sessions, and one turn at a time in each."""

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..sessions import NoSessionError, Session, SessionStore, Stamp, StoredSession
from .errors import RefusedError

# Seconds that a session's next turn waits for the last one: until it is known whether that one's client has left, which
# the end of its connection tells; and then for what is written to be stored.
_NOTICED_S, _STORED_S = 0.5, 10.0
_LOOK_S = 0.05


@dataclass
class _Turn:
    """Turn in a session: whether its client has left, and when it is over."""

    left: Callable[[], bool] = lambda: False
    over: asyncio.Event = field(default_factory=asyncio.Event)


class CachedSession(NamedTuple):
    """Session as it was read or written, with the stamp of its file."""

    session: Session
    stamp: Stamp


class SessionCache:
    """Cache of a server's sessions, of those used last, each reserved for one turn at a time.

    May be used from several threads, but for `claim`, `reserved`, `began`, `release` and `free`: these are the event
    loop's.
    """

    def __init__(self, most: int = 256) -> None:
        """`most` is the number of sessions; their states are in the engine or on disk."""
        self._most = most
        self._turns: dict[str, _Turn] = {}
        self._known: OrderedDict[str, CachedSession] = OrderedDict()
        self._lock = threading.Lock()

    async def claim(self, name: str) -> None:
        """Reserves a session for one turn, as soon as it is free."""
        await self.free(name)
        self._turns[name] = _Turn()

    @contextlib.asynccontextmanager
    async def reserved(self, name: str) -> AsyncIterator[None]:
        """Reserves a session, or a name for one, for the time of a `with` block."""
        await self.claim(name)
        try:
            yield
        finally:
            self.release(name)

    def began(self, name: str, left: Callable[[], bool]) -> None:
        """Marks the turn as being answered; `left` tells whether its client has left."""
        self._turns[name].left = left

    def release(self, name: str) -> None:
        """Ends a turn."""
        if (turn := self._turns.pop(name, None)) is not None:
            turn.over.set()

    async def free(self, name: str) -> None:
        """Waits until a session has no turn, if the client of the present one has left; refuses beside any other."""
        begun = time.monotonic()
        while (turn := self._turns.get(name)) is not None:
            left = turn.left()
            rest = begun + (_STORED_S if left else _NOTICED_S) - time.monotonic()
            if rest <= 0:
                raise RefusedError(409, "the session is being written to; try again soon", code="session_busy", wait=1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(turn.over.wait(), rest if left else min(rest, _LOOK_S))

    def open_session(self, store: SessionStore, name: str, read: Callable[[str], StoredSession]) -> CachedSession:
        """The cached session, if its file is still the same; else it is read anew."""
        stamp = store.stamp(name)
        with self._lock:
            known = self._known.get(name)
        if known is not None and known.stamp == stamp:
            return known
        # Should it change between its stamp and its reading, the next look at the stamp shows that.
        session = read(name).session
        if stamp is None:
            raise NoSessionError(f"there is no session {name} yet; ask for it again")
        return self.keep_session(name, session, stamp)

    def keep_session(self, name: str, session: Session, stamp: Stamp) -> CachedSession:
        """Caches a session that is on disk, in the file of this stamp."""
        kept = CachedSession(session, stamp)
        with self._lock:
            self._known[name] = kept
            self._known.move_to_end(name)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return kept

    def forget_session(self, name: str) -> None:
        """Drops a session that was deleted."""
        with self._lock:
            self._known.pop(name, None)
