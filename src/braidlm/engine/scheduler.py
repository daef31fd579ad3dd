"""What runs next. Knows requests by their sizes only, and no tensors."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from .request import QueueFullError

Job = TypeVar("Job")


class RequestQueue(Generic[Job]):
    """A bounded queue in which clients get equal shares: the one that was given the fewest tokens comes next.

    What a client was given counts while others wait that were given less: so long it is remembered, for at most as many
    clients as requests may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._queues: dict[str, deque[tuple[Job, int]]] = {}
        self._given: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, job: Job, client: str, tokens: int) -> None:
        """Puts a job of so many tokens at the end of its client's queue; `QueueFullError` if too many wait."""
        if len(self) >= self._most:
            raise QueueFullError(f"{len(self)} requests are waiting already; try again later")
        if client not in self._queues:
            # Who comes new begins with what the others have been given: absence earns nothing.
            least = min((self._given[other] for other in self._queues), default=0)
            self._given[client] = max(self._given[client], least)
        self._queues.setdefault(client, deque()).append((job, tokens))

    def take(self, fits: Callable[[Job], bool]) -> Job | None:
        """The next job, if it fits; the others wait behind it, so that a large one is not passed over for ever."""
        if not self._queues:
            return None
        client = min(self._queues, key=lambda name: self._given[name])
        job, tokens = self._queues[client][0]
        if not fits(job):
            return None
        self._queues[client].popleft()
        self._given[client] += tokens
        if not self._queues[client]:
            del self._queues[client]
        self._forget()
        return job

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Takes out and returns the jobs that are no longer wanted."""
        gone = [job for queue in self._queues.values() for job, _ in queue if unwanted(job)]
        kept = {
            client: deque((job, tokens) for job, tokens in queue if not unwanted(job))
            for client, queue in self._queues.items()
        }
        self._queues = {client: queue for client, queue in kept.items() if queue}
        if gone:
            self._forget()
        return gone

    def _forget(self) -> None:
        """Drops clients with nothing waiting that a return would set level with others; the most given stay longest."""
        least = min((self._given[client] for client in self._queues), default=None)
        away = [client for client in self._given if client not in self._queues]
        owed = [client for client in away if least is not None and self._given[client] > least]
        kept = sorted(owed, key=lambda client: self._given[client])[-self._most :]
        self._given = Counter({client: self._given[client] for client in (*self._queues, *kept)})


# Seconds of writing for each one of reading. With one, texts take at least twice as long beside a prompt as without it,
# 2.1 times in practice.
_WRITING = 4 / 3


class PrefillThrottle:
    """Shares time between reading prompts and writing: writing gets somewhat more than it had to wait."""

    def __init__(self) -> None:
        self._owed = 0.0

    def may_read(self, writing: bool) -> bool:
        """Whether a part of a prompt may be read now."""
        return not writing or self._owed <= 0

    def read(self, seconds: float, writing: bool) -> None:
        """So much time went into reading."""
        self._owed = self._owed + _WRITING * seconds if writing else 0.0

    def did_both(self, seconds: float, writing: bool) -> None:
        """So much time went into a step that read for some texts and moved the others along, which waited for less."""
        self._owed = self._owed + seconds if writing else 0.0

    def wrote(self, seconds: float) -> None:
        """So much time went into writing."""
        self._owed = max(0.0, self._owed - seconds)
