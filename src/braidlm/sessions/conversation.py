"""Conversation of one person, at a terminal or in a program."""

from collections.abc import Generator
from typing import Any

from ..engine import Snapshot, StreamChunk, Usage
from ..generation.continuation import Token
from ..generation.sampling import Sampling
from ..text.reasoning import ReasoningSplitter
from .chats import Chats, Turn
from .naming import Stamp
from .session import Session


class Conversation:
    """Conversation, one turn at a time. With a name, each turn is on disk before its last token is given."""

    def __init__(self, chats: Chats, system: str | None = None, name: str | None = None) -> None:
        """`name` of a session: one that exists goes on, else it begins."""
        self._chats = chats
        self.system = system
        self.name: str | None
        self.reset()
        if name is not None and chats.store is not None and name in chats.store:
            self.load(name)
        self.name = name

    def reset(self) -> None:
        """Forgets everything but the system message; what was saved stays."""
        self.session = Session([{"role": "system", "content": self.system}] if self.system else [])
        self.usage: Usage | None = None
        self.made = 0
        self.splitter: ReasoningSplitter | None = None
        self._snapshots: tuple[Snapshot, ...] = ()
        self._stamps: dict[str, Stamp] = {}
        self.name = None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Messages so far."""
        return self.session.messages

    @property
    def tokens(self) -> int:
        """Tokens of the conversation so far."""
        return len(self.session.ids)

    @property
    def nbytes(self) -> int:
        """Bytes of the state that holds all of it."""
        return sum(layer.nbytes for layer in self._snapshots[-1].state.layers) if self._snapshots else 0

    def reply(self, text: str, sampling: Sampling) -> Generator[Token, None, None]:
        """Streams the answer to `text`; when the caller stops early, what was written by then is the answer.

        From the first token on, `splitter` is what tells the answer's reasoning from its content.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        turn = self._chats.begin_in(self.session, messages, sampling, snapshots=self._snapshots)
        self.splitter = turn.splitter()
        made: list[Token] = []
        try:
            for _, token in turn.handle:
                made.append(token)
                if token.finish is None:
                    yield token
        finally:
            turn.handle.cancel()
            turn.handle.wait()
            # Tokens generated before the engine heard of it belong to the answer: the snapshots have seen them.
            made += [item.token for item in turn.handle.arrived() if isinstance(item, StreamChunk)]
            self._finish(turn, made)
        yield made[-1]

    def _finish(self, turn: Turn, made: list[Token]) -> None:
        if not made:  # refused, or stopped while the prompt was read: as if nothing had been said
            return
        self.session = self._chats.finish(self.session, turn, made)
        self.usage, self.made, self._snapshots = turn.handle.usage, len(made), turn.handle.snapshots
        if self.name is not None:
            self.save(self.name)

    @property
    def saved_as(self) -> tuple[str, ...]:
        """Names of the sessions that hold this conversation, or its beginning."""
        return tuple(sorted(self._stamps))

    def save(self, name: str, *, replacing: bool = False) -> None:
        """Writes the conversation and its snapshots to the store, in place of what it has there under this name.

        `SessionExistsError` if that is another conversation, `SessionChangedError` if somebody else has written or
        deleted it since: unless `replacing`, what is stored stays.
        """
        before = None if replacing else self._stamps.get(name)
        new = before is None and not replacing
        self._stamps[name] = self._chats.save(name, self.session, self._snapshots, new=new, instead_of=before)

    def load(self, name: str) -> None:
        """Takes up what was saved; on an error this conversation stays as it is."""
        store = self._chats.store
        stamp = store.stamp(name) if store is not None else None  # before it is read: what changes then is seen later
        stored = self._chats.open(name)
        self.reset()
        self.session, self._snapshots = stored.session, stored.snapshots
        self._stamps = {name: stamp} if stamp is not None else {}

    def fork(self, name: str, *, replacing: bool = False) -> None:
        """Saves a copy under another name, in which the conversation goes on."""
        self.save(name, replacing=replacing)
        self.name = name
