"""What is asked of the engine, and what it gives: requests, tickets, pieces of text, and what they cost."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from typing import NamedTuple

from ..continuation import Constraint, Token
from ..errors import BraidError, InputError
from ..rows import Row
from ..sampling import Sampling
from .grammar import Grammar


class QueueFullError(BraidError, RuntimeError):
    """More requests than may wait."""


class Kept(NamedTuple):
    """A state that has seen exactly `ids`."""

    ids: tuple[int, ...]
    row: Row


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt and how to go on from it.

    `copies` texts are written, each by its own seed: that of `sampling`, the next, and so on. `breaks` are lengths
    of the prompt at which a message ends: states are kept there, since edits begin there. `grammar` is a rule that
    every text follows. Clients get equal shares of the engine. `states` are what the caller holds of this text or of
    one that begins like it; with `wants_states` the ticket has those of the first text when it ends. `adapter` and
    `initial` name what is loaded beside the model (see `adapters.Variants`); states are of this variant alone.
    """

    ids: tuple[int, ...]
    sampling: Sampling
    copies: int = 1
    breaks: tuple[int, ...] = ()
    grammar: Grammar | None = None
    client: str = ""
    states: tuple[Kept, ...] = ()
    wants_states: bool = False
    adapter: str | None = None
    initial: str | None = None

    def __post_init__(self) -> None:
        if not self.ids:
            raise InputError("the prompt is empty; give at least one token")
        if not 1 <= self.copies <= 128:
            raise InputError(f"copies is {self.copies}, but must be from 1 to 128")
        if any(len(state.ids) != state.row.length for state in self.states):
            raise InputError("a state that was given has not seen the tokens that it is said to have seen")

    def sampling_of(self, copy: int) -> Sampling:
        """How copy number `copy` is written."""
        seed = self.sampling.seed
        return self.sampling if seed is None or copy == 0 else self.sampling.with_seed(seed + copy)


class Usage(NamedTuple):
    """Tokens of a prompt by what they cost.

    cached: their state was there. replayed: seen before, but run again, since no state was kept in the right
    place. computed: never seen. `why` says in words what stood in the way of more.
    """

    cached: int
    replayed: int
    computed: int
    why: str


class Piece(NamedTuple):
    """One token of copy number `copy`."""

    copy: int
    token: Token


class Ticket:
    """One request on its way. Iterate to get the pieces as they are made; an error is raised there."""

    def __init__(self, request: Request, constraint: Callable[[], Constraint] | None = None) -> None:
        """`constraint` gives the request's grammar, compiled, to each text."""
        self.request = request
        self.constraint = constraint
        self.usage: Usage | None = None
        self.states: tuple[Kept, ...] = ()  # shortest first, once the ticket has ended
        self.cancelled = False
        self._done = Event()
        self._listener: Callable[[], None] = _nobody
        self._pieces: SimpleQueue[Piece | Exception | None] = SimpleQueue()

    def cancel(self) -> None:
        """Asks the engine to stop; what was read and written stays known to it."""
        self.cancelled = True

    def wait(self, timeout: float | None = None) -> bool:
        """Until the engine is done with the request; whether it is."""
        return self._done.wait(timeout)

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` in the engine's thread whenever `arrived` has more; at once, for what is there already."""
        self._listener = listener
        listener()

    def arrived(self) -> Iterator[Piece | Exception | None]:
        """What has come and was not taken yet, without waiting; at the end an error, or None."""
        with contextlib.suppress(Empty):
            while True:
                yield self._pieces.get_nowait()

    def give(self, piece: Piece) -> None:
        """For the engine: one more piece."""
        self._pieces.put(piece)
        self._listener()

    def end(self, error: Exception | None = None) -> None:
        """For the engine: nothing more follows."""
        self._pieces.put(error)
        self._done.set()
        self._listener()

    def __iter__(self) -> Iterator[Piece]:
        while (item := self._pieces.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


def _nobody() -> None:
    """Nobody listens."""
