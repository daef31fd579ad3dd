"""Routing of requests to replicas: a rule without a network, from names of replicas to one of them.

- A session goes to the replica that answered it last: its states are there, and nobody else writes its file. One that
  no running replica has answered goes to its home, which is the same for as long as that replica runs.
- Any other prompt goes to the replica that last got the longest prefix of it, unless that one has more than `SLACK`
  requests more than the idlest; then to the idlest, as does a prompt whose prefix nobody knows.
"""

import hashlib
import itertools
import json
import re
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SLACK = 2
# Characters of one step of a prefix, and steps of a prompt that are looked at.
STEP = 64
_MOST_STEPS = 1 << 12
# Prefixes that are remembered, about 30 MB at most, and sessions.
_MOST_BEGINNINGS = 1 << 17
_MOST_SESSIONS = 1 << 16

_SESSION_PATH = re.compile(r"/v1/sessions/([^/]+)(?:/fork)?")


@dataclass(frozen=True)
class RoutingKey:
    """Key of a request: its session, or digests of its prompt's prefixes, shortest first, or neither."""

    session: str | None = None
    beginnings: tuple[bytes, ...] = ()


def routing_key_of(path: str, body: bytes, owner: str = "") -> RoutingKey:
    """Routing key of a request to `path`; `owner` is the prefix of the names of its client's sessions.

    A malformed body has an empty key: whichever replica gets it refuses it.
    """
    if found := _SESSION_PATH.fullmatch(path):
        return RoutingKey(owner + found[1])
    try:
        asked = json.loads(body) if body else None
        if not isinstance(asked, dict):
            return RoutingKey()
        session = asked.get("id" if path == "/v1/sessions" else "session")
        if isinstance(session, str):
            return RoutingKey(owner + session)
        return RoutingKey(None, tuple(itertools.islice(_digests(_parts(asked)), _MOST_STEPS)))
    except (ValueError, RecursionError):
        return RoutingKey()


def _parts(asked: Mapping[str, Any]) -> Iterator[str]:
    """Parts of a request's prompt: prompts that begin alike have the same first parts."""
    if asked.get("tools"):  # templates write them before anything else
        yield json.dumps(asked["tools"])
    if isinstance(asked.get("messages"), list):
        yield from map(json.dumps, asked["messages"])
    elif "prompt" in asked:
        text = asked["prompt"]
        yield text if isinstance(text, str) else json.dumps(text)


def _digests(parts: Iterator[str]) -> Iterator[bytes]:
    """Digests of prefixes: one of all that came before, after every step of every part."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        for at in range(0, len(part), STEP):
            step = part[at : at + STEP].encode("utf-8", "surrogatepass")
            hashed.update(len(step).to_bytes(4, "little") + step)
            yield hashed.digest()


def home_of(session: str, replicas: Collection[str]) -> str:
    """The replica with the highest digest beside this session (rendezvous hashing).

    When one comes, only sessions whose home it becomes move; when one goes, only those whose home it was.
    """
    return max(
        replicas, key=lambda name: hashlib.blake2b(f"{name} {session}".encode("utf-8", "surrogatepass")).digest()
    )


class Routing:
    """Memory of which replica answered what. To be used by one thread."""

    def __init__(self) -> None:
        self._holders: OrderedDict[str, str] = OrderedDict()
        self._readers: OrderedDict[bytes, str] = OrderedDict()
        self._chosen: dict[str, int] = {}  # when each replica was chosen last
        self._choices = 0

    def choose(self, routing_key: RoutingKey, running: Mapping[str, int]) -> str:
        """The replica that answers; `running` has how many requests each of those that live is answering."""
        chosen = (
            self._of_session(routing_key.session, running)
            if routing_key.session is not None
            else self._of_text(routing_key, running)
        )
        self._choices += 1
        self._chosen = {name: at for name, at in self._chosen.items() if name in running} | {chosen: self._choices}
        return chosen

    def _of_session(self, session: str, running: Mapping[str, int]) -> str:
        holder = self._holders.get(session)
        if holder is None or holder not in running:
            holder = home_of(session, running)
        _remember(self._holders, session, holder, _MOST_SESSIONS)
        return holder

    def _of_text(self, routing_key: RoutingKey, running: Mapping[str, int]) -> str:
        # Of two that are as idle, the one that has waited longer: so prompts spread.
        idlest = min(running, key=lambda name: (running[name], self._chosen.get(name, 0)))
        readers = (self._readers.get(digest, "") for digest in reversed(routing_key.beginnings))
        chosen = next((name for name in readers if name in running), idlest)
        if running[chosen] > running[idlest] + SLACK:
            chosen = idlest
        for digest in routing_key.beginnings:
            _remember(self._readers, digest, chosen, _MOST_BEGINNINGS)
        return chosen


def _remember(table: OrderedDict[Any, str], key: Any, replica: str, most: int) -> None:
    table[key] = replica
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
