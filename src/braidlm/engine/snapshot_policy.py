"""What is kept of the texts that an engine reads and writes: at which places, and what a request finds of it."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from ..spec import ModelSpec
from ..state.sequence import Identity, SequenceState
from .adapter_runners import AdapterKey, adapter_key_of
from .prefix_cache import PrefixCache
from .request import Request, Snapshot, Usage
from .runner import can_be_cut, cut


class Scope(NamedTuple):
    """Whose texts may meet in the cache: those of one variant and one salt."""

    variant: AdapterKey
    salt: str


def scope_of(request: Request) -> Scope:
    """Where a request's texts are sought and kept."""
    return Scope(adapter_key_of(request), request.cache_salt)


class Found(NamedTuple):
    """The nearest state before a prompt's end, if there is one, and what that leaves to do."""

    row: SequenceState | None
    usage: Usage


class SnapshotPolicy:
    """The states of one engine. `snapshot_interval`: tokens between two of them, at most, while `memory`, in bytes, lasts."""

    def __init__(self, spec: ModelSpec, memory: int, snapshot_interval: int, smallest: int) -> None:
        """`smallest` are the bytes of a state that has seen nothing: without room for one, nothing is kept."""
        self._cut = cut if can_be_cut(spec) else None
        self._snapshot_interval = snapshot_interval
        self.keeps = memory >= smallest
        self.cache = PrefixCache(memory, snapshot_interval, self._cut)

    def find(self, request: Request, identity: Identity) -> Found:
        """What is known of the prompt, to the engine or to the caller, whose states become known to the engine.

        `StateError` for states that were given of another identity than this, which the request runs on.
        """
        request.require_states_of(identity)
        if request.prompt_logprobs is not None:
            return Found(None, Usage(0, 0, len(request.ids), "log probabilities of the prompt need all of it run"))
        found = self.cache.match(request.ids, scope_of(request))
        if request.states:
            given = PrefixCache(sys.maxsize, self._snapshot_interval, self._cut)
            for ids, row in request.states:
                given.add(ids, row)
                self.add(ids, row, request)
            found = max(given.match(request.ids), found, key=lambda match: (match.cached, match.known))
        recomputed = min(found.known, len(request.ids) - 1) - found.cached
        new = len(request.ids) - found.cached - recomputed
        return Found(found.row, Usage(found.cached, recomputed, new, _why(found.known, recomputed, found.dropped)))

    def stop(self, request: Request, begin: int, short: int) -> int:
        """How much of the prompt, which is known up to `begin`, is to be read.

        The rest is left to the step that writes the texts, where that costs less: up to `short` tokens of one text,
        of several ones the last token, and so the last one behind others where a state is wanted before it (a pass
        would run every mixer in two pieces).
        """
        whole = len(request.ids)
        if request.prompt_logprobs is not None or not request.generates:
            return whole
        if whole - begin <= (short if request.copies == 1 else 1):
            return begin
        wanted = self.keeps and self._cut is None and whole not in request.breaks
        return whole - 1 if wanted else whole

    def marks(self, request: Request, begin: int, end: int) -> list[int]:
        """Where in (begin, end] of the prompt states are to be kept."""
        if not self.keeps:
            return []
        if self._cut is not None:
            wanted = {len(request.ids)}
        else:
            apart = self._snapshot_interval
            wanted = {len(request.ids) - 1, *request.breaks, *range(begin - begin % apart, end + 1, apart)}
        return sorted(mark for mark in wanted if begin < mark <= end)

    def wanted_inside(self, length: int) -> bool:
        """Whether the state after so many tokens of a text is to be kept while the text goes on."""
        return self.keeps and self._cut is None and length % self._snapshot_interval == 0

    def knows(self, ids: Sequence[int], scope: Scope) -> bool:
        """Whether the state after `ids` is kept."""
        return self.cache.match((*ids, 0), scope).cached == len(ids)

    def add(self, ids: Sequence[int], row: SequenceState, request: Request) -> None:
        """Keeps the state after `ids`, as far as memory allows."""
        if self.keeps:
            self.cache.add(ids, row, scope_of(request))

    def along(self, ids: Sequence[int], row: SequenceState, request: Request) -> tuple[Snapshot, ...]:
        """All that is kept along a text whose end is `row`; of what can be cut, the end is enough."""
        before = [] if self._cut is not None else self.cache.along(ids[:-1], scope_of(request))
        return (*(Snapshot(tuple(ids[:length]), kept) for length, kept in before), Snapshot(tuple(ids), row))


def _why(known: int, recomputed: int, dropped: bool) -> str:
    """What stood in the way of taking more."""
    if not known:
        return "no text seen before begins so"
    if not recomputed:
        return "what follows was not seen before"
    return "the states in between were dropped for memory" if dropped else "no state was kept nearer"
