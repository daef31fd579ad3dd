"""Policy of snapshots: at which positions they are taken, and with which one a request begins."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from ..spec import ModelSpec
from ..state.sequence import Identity, SequenceState
from .adapter_runners import AdapterKey, adapter_key_of
from .prefix_cache import PrefixCache
from .request import Request, Snapshot, Usage
from .runner import can_truncate, truncate


class Scope(NamedTuple):
    """Requests that may share snapshots: those of one adapter key and one salt."""

    adapter_key: AdapterKey
    salt: str


def scope_of(request: Request) -> Scope:
    """Scope of a request."""
    return Scope(adapter_key_of(request), request.cache_salt)


class Found(NamedTuple):
    """The longest snapshot of a prompt's prefix, if there is one, and the usage that follows."""

    state: SequenceState | None
    usage: Usage


class SnapshotPolicy:
    """Snapshots of one engine: at most `snapshot_interval` tokens apart while memory lasts."""

    def __init__(self, spec: ModelSpec, memory: int, snapshot_interval: int, smallest: int) -> None:
        """`memory` is in bytes; without room for `smallest`, an empty sequence's state, there are no snapshots."""
        self._truncate = truncate if can_truncate(spec) else None
        self._snapshot_interval = snapshot_interval
        self.enabled = memory >= smallest
        self.cache = PrefixCache(memory, snapshot_interval, self._truncate)

    def find_prefix(self, request: Request, identity: Identity) -> Found:
        """The longest prefix of the prompt that the engine or the caller has a snapshot of; the caller's are added.

        `StateError` for states of the caller of another identity than this, which the request runs on.
        """
        request.require_identity(identity)
        if request.prompt_logprobs is not None:
            return Found(None, Usage(0, 0, len(request.ids), "log probabilities of the prompt need all of it run"))
        found = self.cache.match(request.ids, scope_of(request))
        if request.snapshots:
            given = PrefixCache(sys.maxsize, self._snapshot_interval, self._truncate)
            for ids, state in request.snapshots:
                given.add_state(ids, state)
                self.add_snapshot(ids, state, request)
            found = max(given.match(request.ids), found, key=lambda match: (match.cached, match.known))
        recomputed = min(found.known, len(request.ids) - 1) - found.cached
        new = len(request.ids) - found.cached - recomputed
        return Found(found.state, Usage(found.cached, recomputed, new, _why(found.known, recomputed, found.dropped)))

    def prefill_end(self, request: Request, begin: int, max_decode_tokens: int) -> int:
        """Length of the prompt, which is known up to `begin`, that prefill passes run.

        The suffix after it is left to decode steps, where that costs less: up to `max_decode_tokens` tokens of one
        sequence, of several ones the last token, and so the last one behind others where a snapshot is wanted before
        it (a pass would run every mixer in two parts).
        """
        whole = len(request.ids)
        if request.prompt_logprobs is not None or not request.generates:
            return whole
        if whole - begin <= (max_decode_tokens if request.n == 1 else 1):
            return begin
        wanted = self.enabled and self._truncate is None and whole not in request.message_boundaries
        return whole - 1 if wanted else whole

    def snapshot_positions(self, request: Request, begin: int, end: int) -> list[int]:
        """Positions in (begin, end] of the prompt at which snapshots are to be taken, in order."""
        if not self.enabled:
            return []
        if self._truncate is not None:
            wanted = {len(request.ids)}
        else:
            apart = self._snapshot_interval
            wanted = {len(request.ids) - 1, *request.message_boundaries, *range(begin - begin % apart, end + 1, apart)}
        return sorted(position for position in wanted if begin < position <= end)

    def wants_snapshot(self, length: int) -> bool:
        """Whether a snapshot is to be taken after `length` tokens of a sequence that goes on."""
        return self.enabled and self._truncate is None and length % self._snapshot_interval == 0

    def has_snapshot(self, ids: Sequence[int], scope: Scope) -> bool:
        """Whether there is a snapshot after exactly `ids`."""
        return self.cache.match((*ids, 0), scope).cached == len(ids)

    def add_snapshot(self, ids: Sequence[int], state: SequenceState, request: Request) -> None:
        """Keeps the state after `ids` as a snapshot, as far as memory allows."""
        if self.enabled:
            self.cache.add_state(ids, state, scope_of(request))

    def snapshots_along(self, ids: Sequence[int], state: SequenceState, request: Request) -> tuple[Snapshot, ...]:
        """Snapshots of prefixes of `ids`, whose state is `state`; that one alone where states can be truncated."""
        before = [] if self._truncate is not None else self.cache.states_along(ids[:-1], scope_of(request))
        return (*(Snapshot(tuple(ids[:length]), kept) for length, kept in before), Snapshot(tuple(ids), state))


def _why(known: int, recomputed: int, dropped: bool) -> str:
    """Reason in words why no longer prefix was cached."""
    if not known:
        return "no text seen before begins so"
    if not recomputed:
        return "what follows was not seen before"
    return "the states in between were dropped for memory" if dropped else "no state was kept nearer"
