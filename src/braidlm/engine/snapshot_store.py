"""Snapshots of one engine: the longest one of a prompt's prefix, and what a request says of its usage."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from ..state.sequence import Identity, SequenceState
from .prefix_cache import PrefixCache
from .request import AdapterKey, Request, Snapshot, Usage
from .snapshot_policy import SnapshotPolicy


class Scope(NamedTuple):
    """Requests that may share snapshots: those of one adapter key and one salt."""

    adapter_key: AdapterKey
    salt: str


class Found(NamedTuple):
    """State that a request begins with, if any of its prompt is known, after `cached` of its tokens; its usage."""

    state: SequenceState | None
    usage: Usage


class SnapshotStore:
    """Snapshots of one engine, in a prefix cache of so many bytes."""

    def __init__(self, policy: SnapshotPolicy, memory: int) -> None:
        self._policy = policy
        self._truncate = SequenceState.truncated if policy.truncatable else None
        self.cache = PrefixCache(memory, policy.interval, self._truncate)

    def find_prefix(self, request: Request, identity: Identity) -> Found:
        """The longest prefix of the prompt that the engine or the caller has a snapshot of; the caller's are added.

        `StateError` for states of the caller of another identity than this, which the request runs on.
        """
        request.require_identity(identity)
        if request.state is not None:
            return Found(None, Usage(0, 0, len(request.ids), "the prompt goes on from a state that was given"))
        if request.prompt_logprobs is not None:
            return Found(None, Usage(0, 0, len(request.ids), "log probabilities of the prompt need all of it run"))
        found = self.cache.match(request.ids, _scope_of(request))
        if request.snapshots:
            given = PrefixCache(sys.maxsize, self._policy.interval, self._truncate)
            for ids, state in request.snapshots:
                given.add_state(ids, state)
                self.add_snapshot(ids, state, request)
            found = max(given.match(request.ids), found, key=lambda match: (match.cached, match.known))
        recomputed = min(found.known, len(request.ids) - 1) - found.cached
        new = len(request.ids) - found.cached - recomputed
        return Found(found.state, Usage(found.cached, recomputed, new, _why(found.known, recomputed, found.dropped)))

    def has_snapshot(self, ids: Sequence[int], scope: Scope) -> bool:
        """Whether there is a snapshot after exactly `ids`."""
        return self.cache.match((*ids, 0), scope).cached == len(ids)

    def add_snapshot(self, ids: Sequence[int], state: SequenceState, request: Request) -> None:
        """Keeps the state after `ids` as a snapshot, as far as memory allows."""
        if self._policy.serves(request):
            self.cache.add_state(ids, state, _scope_of(request))

    def snapshots_along(self, ids: Sequence[int], state: SequenceState, request: Request) -> tuple[Snapshot, ...]:
        """Snapshots of prefixes of `ids`, whose state is `state`; that one alone where states can be truncated."""
        alone = self._policy.truncatable or request.state is not None
        before = [] if alone else self.cache.states_along(ids[:-1], _scope_of(request))
        return (*(Snapshot(tuple(ids[:length]), kept) for length, kept in before), Snapshot(tuple(ids), state))


def _scope_of(request: Request) -> Scope:
    return Scope(request.adapter_key, request.cache_salt)


def _why(known: int, recomputed: int, dropped: bool) -> str:
    """Reason in words why no longer prefix was cached."""
    if not known:
        return "no text seen before begins so"
    if not recomputed:
        return "what follows was not seen before"
    return "the states in between were dropped for memory" if dropped else "no state was kept nearer"
