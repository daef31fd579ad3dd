"""What is asked of the engine, and what it gives: requests, tickets, pieces of text, and what they cost."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event
from typing import NamedTuple

from ..errors import BraidError, InputError, StateError
from ..generation.choice import Choice
from ..generation.continuation import Constraint, Token
from ..generation.sampling import Sampling
from ..state.sequence import Identity, SequenceState
from .after_reasoning import ReasoningFirst
from .grammar import Grammar

log = logging.getLogger("braidlm.engine")


class QueueFullError(BraidError, RuntimeError):
    """More requests than may wait."""


class Snapshot(NamedTuple):
    """A state that has seen exactly `ids`."""

    ids: tuple[int, ...]
    row: SequenceState


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt and how to go on from it.

    `copies` texts are written, each by its own seed: that of `sampling`, the next, and so on. `breaks` are lengths
    of the prompt at which a message ends: states are kept there, since edits begin there. `grammar` is a rule that
    every text follows. Clients get equal shares of the engine. `states` are what the caller holds of this text or of
    one that begins like it, of the same model, adapter, initial state and precision (others are refused); with
    `wants_states` the ticket has those of the first text when it ends. `adapter` and `initial` name what is loaded
    beside the model (see `adapters.Variants`). What is kept of a request's texts serves requests of the same
    `cache_salt` alone: neither `usage` nor time tells one of what another asked.

    `reasoning` says how the model may reason first: a grammar then describes what follows. `marks` are control tokens
    that are shown in the text, by id.

    With `prompt_logprobs` the handle has the log probability of each of the prompt's tokens and of so many of the
    most likely ones in its place; every token of the prompt is then run, whatever is known of it. With `generates`
    False nothing is written after the prompt.
    """

    ids: tuple[int, ...]
    sampling: Sampling
    copies: int = 1
    breaks: tuple[int, ...] = ()
    grammar: Grammar | None = None
    client: str = ""
    states: tuple[Snapshot, ...] = ()
    wants_states: bool = False
    adapter: str | None = None
    initial: str | None = None
    cache_salt: str = ""
    prompt_logprobs: int | None = None
    generates: bool = True
    reasoning: ReasoningFirst | None = None
    marks: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ids:
            raise InputError("the prompt is empty; give at least one token")
        if not 1 <= self.copies <= 128:
            raise InputError(f"copies is {self.copies}, but must be from 1 to 128")
        if self.prompt_logprobs is not None and not 0 <= self.prompt_logprobs <= 1000:
            raise InputError(f"prompt_logprobs is {self.prompt_logprobs}, but must be from 0 to 1000")
        if any(len(state.ids) != state.row.length for state in self.states):
            raise InputError("a state that was given has not seen the tokens that it is said to have seen")

    def require_states_of(self, identity: Identity) -> None:
        """`StateError` unless all `states` that were given are of this identity."""
        for _, row in self.states:
            if row.identity is None:
                raise StateError(f"a state that was given does not say what computed it; it should be of {identity}")
            row.identity.require(identity, "a state that was given")

    def sampling_of(self, copy: int) -> Sampling:
        """How copy number `copy` is written."""
        seed = self.sampling.seed
        return self.sampling if seed is None or copy == 0 else self.sampling.with_seed(seed + copy)


class Usage(NamedTuple):
    """Tokens of a prompt by what they cost.

    cached: their state was there. recomputed: seen before, but run again, since no state was kept in the right
    place. computed: never seen. `why` says in words what stood in the way of more.
    """

    cached: int
    recomputed: int
    computed: int
    why: str


class Piece(NamedTuple):
    """One token of copy number `copy`."""

    copy: int
    token: Token


class RequestHandle:
    """One request on its way. Iterate to get the pieces as they are made; an error is raised there."""

    def __init__(self, request: Request, constraint: Callable[[], Constraint] | None = None) -> None:
        """`constraint` gives the request's grammar, compiled, to each text."""
        self.request = request
        self.constraint = constraint
        self.usage: Usage | None = None
        self.states: tuple[Snapshot, ...] = ()  # shortest first, once the ticket has ended
        self.prompt_logprobs: list[Choice] = []  # of the prompt's second token and of all after it, before any piece
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
        """Calls `listener` in the engine's thread whenever `arrived` has more; at once, for what is there already.

        A listener that raises ends its request with that error, and is not called again.
        """
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
        self._tell()

    def end(self, error: BaseException | None = None) -> None:
        """For the engine: nothing more follows. Never raises."""
        self._pieces.put(None if error is None else as_exception(error))
        self._done.set()
        try:
            self._tell()
        except BaseException as raised:
            log.warning("the listener of a request failed as the request ended: %s", as_exception(raised))

    def _tell(self) -> None:
        try:
            self._listener()
        except BaseException:
            self._listener = _nobody
            raise

    def __iter__(self) -> Iterator[Piece]:
        while (item := self._pieces.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


def as_exception(error: BaseException) -> Exception:
    """What is told of an error: a library's panic, or an exit from within a callback, is not to end who hears of it."""
    return error if isinstance(error, Exception) else BraidError(f"{type(error).__name__}: {error}")


def _nobody() -> None:
    """Nobody listens."""
