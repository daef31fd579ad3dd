"""Which replica answers a request. A rule without a network: names of replicas in, one of them out.

- A session goes to the replica that answered it last: its states are there, and nobody else writes its file. One that
  no running replica has answered goes to its home, which is the same for as long as that replica runs.
- Any other text goes to the replica that last got the longest beginning of it, unless that one has more than `SLACK`
  requests more than the idlest; then to the idlest, as does a text whose beginning nobody knows.
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
# Characters that are one step of a beginning; so many steps of a text are looked at.
STEP = 64
_MOST_STEPS = 1 << 12
# What is remembered: about 30 MB of beginnings at most, and sessions.
_MOST_BEGINNINGS = 1 << 17
_MOST_SESSIONS = 1 << 16

_SESSION_PATH = re.compile(r"/v1/sessions/([^/]+)(?:/fork)?")


@dataclass(frozen=True)
class RoutingKey:
    """What a request asks for: a session, or a text by the digests of its beginnings, shortest first, or neither."""

    session: str | None = None
    beginnings: tuple[bytes, ...] = ()


def wish_of(path: str, body: bytes, owner: str = "") -> RoutingKey:
    """What a request to `path` asks for; `owner` is what the names of its client's sessions begin with.

    A body that is not as it should be asks for nothing: whoever gets it refuses it.
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
    """What is the prompt of a request, part by part: like beginnings of prompts are like first parts."""
    if asked.get("tools"):  # templates write them before anything else
        yield json.dumps(asked["tools"])
    if isinstance(asked.get("messages"), list):
        yield from map(json.dumps, asked["messages"])
    elif "prompt" in asked:
        text = asked["prompt"]
        yield text if isinstance(text, str) else json.dumps(text)


def _digests(parts: Iterator[str]) -> Iterator[bytes]:
    """A digest of all that came before, after every step of every part."""
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
    """Remembers who answered what. To be used by one thread."""

    def __init__(self) -> None:
        self._holders: OrderedDict[str, str] = OrderedDict()
        self._readers: OrderedDict[bytes, str] = OrderedDict()
        self._chosen: dict[str, int] = {}  # when each replica was chosen last
        self._choices = 0

    def choose(self, wish: RoutingKey, running: Mapping[str, int]) -> str:
        """The replica that answers; `running` has how many requests each of those that live is answering."""
        chosen = self._of_session(wish.session, running) if wish.session is not None else self._of_text(wish, running)
        self._choices += 1
        self._chosen = {name: at for name, at in self._chosen.items() if name in running} | {chosen: self._choices}
        return chosen

    def _of_session(self, session: str, running: Mapping[str, int]) -> str:
        holder = self._holders.get(session)
        if holder is None or holder not in running:
            holder = home_of(session, running)
        _remember(self._holders, session, holder, _MOST_SESSIONS)
        return holder

    def _of_text(self, wish: RoutingKey, running: Mapping[str, int]) -> str:
        # Of two that are as idle, the one that has waited longer: so texts spread.
        idlest = min(running, key=lambda name: (running[name], self._chosen.get(name, 0)))
        readers = (self._readers.get(digest, "") for digest in reversed(wish.beginnings))
        chosen = next((name for name in readers if name in running), idlest)
        if running[chosen] > running[idlest] + SLACK:
            chosen = idlest
        for digest in wish.beginnings:
            _remember(self._readers, digest, chosen, _MOST_BEGINNINGS)
        return chosen


def _remember(table: OrderedDict[Any, str], key: Any, replica: str, most: int) -> None:
    table[key] = replica
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
