"""Requests to the engine, their handles, the chunks of their answers, and their usage."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event
from typing import NamedTuple

from ..errors import BraidError, InputError, StateError, as_exception
from ..generation.choice import Choice
from ..generation.continuation import Constraint, Token
from ..generation.sampling import Sampling
from ..state.sequence import Identity, SequenceState
from .after_reasoning import ReasoningFirst
from .grammar import Grammar

# An adapter and a learned initial state by name.
AdapterKey = tuple[str | None, str | None]
BASE: AdapterKey = (None, None)

log = logging.getLogger("braidlm.engine")


class QueueFullError(BraidError, RuntimeError):
    """Refusal of a request because too many wait."""


class Snapshot(NamedTuple):
    """State of a sequence after exactly `ids`."""

    ids: tuple[int, ...]
    state: SequenceState


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt and how to go on from it.

    `n` sequences are generated, each with its own seed: that of `sampling`, the next, and so on. `message_boundaries`
    are lengths of the prompt at which a message ends: snapshots are taken there, since edits begin there. `grammar` is
    a rule that every sequence follows. Clients get equal shares of the engine. `snapshots` are those that the caller
    holds of this prompt or of one that begins like it; those of another model, adapter, initial state or precision are
    refused. With `wants_snapshots` the handle has those of the first sequence when it ends. `adapter` and `initial`
    name what is loaded beside the model (see `AdapterRegistry`). Snapshots of a request serve requests of the same
    `cache_salt` alone: neither `usage` nor time tells one of what another asked.

    With `state` the prompt goes on from there: `ids` follow the tokens that the state has seen, and which these are is
    not known, so that no other request begins with a snapshot of this one.

    `reasoning` says how the model may reason first: a grammar then describes what follows. `visible_tokens` are
    control tokens that are shown in the text, by id.

    With `prompt_logprobs` the handle has the log probability of each of the prompt's tokens and of so many of the
    most likely ones in its place; every token of the prompt is then run, whatever is known of it. With `generates`
    False the request ends after the prompt.
    """

    ids: tuple[int, ...]
    sampling: Sampling
    n: int = 1
    message_boundaries: tuple[int, ...] = ()
    grammar: Grammar | None = None
    client: str = ""
    snapshots: tuple[Snapshot, ...] = ()
    wants_snapshots: bool = False
    adapter: str | None = None
    initial: str | None = None
    cache_salt: str = ""
    prompt_logprobs: int | None = None
    generates: bool = True
    reasoning: ReasoningFirst | None = None
    visible_tokens: Mapping[int, str] = field(default_factory=dict)
    state: SequenceState | None = None

    def __post_init__(self) -> None:
        if not self.ids:
            raise InputError("the prompt is empty; give at least one token")
        if not 1 <= self.n <= 128:
            raise InputError(f"n is {self.n}, but must be from 1 to 128")
        if self.prompt_logprobs is not None and not 0 <= self.prompt_logprobs <= 1000:
            raise InputError(f"prompt_logprobs is {self.prompt_logprobs}, but must be from 0 to 1000")
        if any(len(snapshot.ids) != snapshot.state.length for snapshot in self.snapshots):
            raise InputError("a state that was given has not seen the tokens that it is said to have seen")

    @property
    def adapter_key(self) -> AdapterKey:
        """Adapter and initial state that the request runs with."""
        return self.adapter, self.initial

    @property
    def seen(self) -> int:
        """Number of tokens before the prompt's first: those that the given state has seen."""
        return self.state.length if self.state is not None else 0

    def require_identity(self, identity: Identity) -> None:
        """`StateError` unless all states that the request brings are of this identity."""
        for state in (*(snapshot.state for snapshot in self.snapshots), *(() if self.state is None else (self.state,))):
            if state.identity is None and not identity.fingerprint:
                continue  # in training nothing has an identity
            if state.identity is None:
                raise StateError(f"a state that was given does not say what computed it; it should be of {identity}")
            state.identity.require(identity, "a state that was given")

    def sampling_of(self, index: int) -> Sampling:
        """Sampling of sequence number `index`."""
        seed = self.sampling.seed
        return self.sampling if seed is None or index == 0 else self.sampling.with_seed(seed + index)


class Usage(NamedTuple):
    """Tokens of a prompt by what they cost.

    cached: covered by a snapshot. recomputed: seen before, but run again, since there was no snapshot near enough.
    computed: never seen. `why` says in words what stood in the way of more.
    """

    cached: int
    recomputed: int
    computed: int
    why: str


class StreamChunk(NamedTuple):
    """One token of sequence number `index`."""

    index: int  # type: ignore[assignment]  # in place of the method of tuples
    token: Token


class RequestHandle:
    """Handle of a submitted request. Iterate to get its chunks as they are generated; an error is raised there."""

    def __init__(self, request: Request, constraint: Callable[[], Constraint] | None = None) -> None:
        """`constraint` makes the constraint of one sequence from the request's compiled grammar."""
        self.request = request
        self.constraint = constraint
        self.usage: Usage | None = None
        self.snapshots: tuple[Snapshot, ...] = ()  # shortest first, once the request has ended
        self.prompt_logprobs: list[Choice] = []  # of the prompt's second token and of all after it, before any chunk
        self.cancelled = False
        self._done = Event()
        self._listener: Callable[[], None] = _no_listener
        self._chunks: SimpleQueue[StreamChunk | Exception | None] = SimpleQueue()

    def cancel(self) -> None:
        """Asks the engine to stop; snapshots of what was run stay."""
        self.cancelled = True

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the request has ended, or for `timeout` seconds; whether it has ended."""
        return self._done.wait(timeout)

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` in the engine's thread whenever `arrived` has more; at once, for what is there already.

        A listener that raises ends its request with that error, and is not called again.
        """
        self._listener = listener
        listener()

    def arrived(self) -> Iterator[StreamChunk | Exception | None]:
        """Chunks that have come and were not taken yet, without waiting; at the end an error, or None."""
        with contextlib.suppress(Empty):
            while True:
                yield self._chunks.get_nowait()

    def push_chunk(self, chunk: StreamChunk) -> None:
        """Appends a chunk; called by the engine."""
        self._chunks.put(chunk)
        self._notify()

    def finish(self, error: BaseException | None = None) -> None:
        """Ends the stream of chunks; called by the engine. Never raises."""
        self._chunks.put(None if error is None else as_exception(error))
        self._done.set()
        try:
            self._notify()
        except BaseException as raised:
            log.warning("the listener of a request failed as the request ended: %s", as_exception(raised))

    def _notify(self) -> None:
        try:
            self._listener()
        except BaseException:
            self._listener = _no_listener
            raise

    def __iter__(self) -> Iterator[StreamChunk]:
        while (item := self._chunks.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


def _no_listener() -> None:
    """Does nothing: the listener before one is set."""
