"""Stored sessions on their way: one turn at a time in each, and those used last at hand."""

from collections import OrderedDict
from collections.abc import Callable

from ..sessions import Session, SessionStore, Stored
from .errors import RefusedError

Stamp = tuple[int, int, int]


class Desk:
    """May be used from several threads, but for `claim` and `release`, which belong to the event loop."""

    def __init__(self, most: int = 256) -> None:
        """`most` is how many sessions are at hand; their states are not here, but in the engine or on disk."""
        self._most = most
        self._busy: set[str] = set()
        self._known: OrderedDict[str, tuple[Stamp, Session]] = OrderedDict()

    def claim(self, name: str) -> None:
        """Reserves a session for one turn; refuses if there is another one."""
        self.require_free(name)
        self._busy.add(name)

    def release(self, name: str) -> None:
        """Ends a turn."""
        self._busy.discard(name)

    def require_free(self, name: str) -> None:
        """Refuses to touch a session that is being written to."""
        if name in self._busy:
            raise RefusedError(409, "the session is being written to; try again soon", code="session_busy", wait=1)

    def open(self, store: SessionStore, name: str, read: Callable[[str], Stored]) -> Session:
        """A session as it was when it was last kept, if its file is still the same; else it is read anew."""
        stamp, known = _stamp(store, name), self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        session = read(name).session
        self.keep(store, name, session)
        return session

    def keep(self, store: SessionStore, name: str, session: Session) -> None:
        """Keeps a session at hand that is on disk."""
        stamp = _stamp(store, name)
        if stamp is None:
            return
        self._known[name] = stamp, session
        self._known.move_to_end(name)
        while len(self._known) > self._most:
            self._known.popitem(last=False)


def _stamp(store: SessionStore, name: str) -> Stamp | None:
    try:
        found = store.path(name).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
