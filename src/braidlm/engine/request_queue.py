"""Queue of waiting requests, which are known by their sizes only."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from .request import QueueFullError

Item = TypeVar("Item")


class RequestQueue(Generic[Item]):
    """Bounded queue of waiting requests, fair across clients: the one that was given the fewest tokens comes next.

    What a client was given counts while others wait that were given less: so long it is remembered, for at most as many
    clients as requests may wait.
    """

    def __init__(self, most: int) -> None:
        """`most` requests may wait."""
        self._most = most
        self._queues: dict[str, deque[tuple[Item, int]]] = {}
        self._given: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, item: Item, client: str, tokens: int) -> None:
        """Puts an item of so many tokens at the end of its client's queue; `QueueFullError` if too many wait."""
        if len(self) >= self._most:
            raise QueueFullError(f"{len(self)} requests are waiting already; try again later")
        if client not in self._queues:
            # A new client begins with what the others have been given: absence earns nothing.
            least = min((self._given[other] for other in self._queues), default=0)
            self._given[client] = max(self._given[client], least)
        self._queues.setdefault(client, deque()).append((item, tokens))

    def pop_if(self, fits: Callable[[Item], bool]) -> Item | None:
        """The next item, if it fits; the others wait behind it, so that a large one is not passed over for ever."""
        if not self._queues:
            return None
        client = min(self._queues, key=lambda name: self._given[name])
        item, tokens = self._queues[client][0]
        if not fits(item):
            return None
        self._queues[client].popleft()
        self._given[client] += tokens
        if not self._queues[client]:
            del self._queues[client]
        self._forget()
        return item

    def remove_if(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Takes out and returns the items that are no longer wanted; each is asked about once.

        Another thread may change the answer at any time: an item is either returned or still waits.
        """
        gone: list[Item] = []
        kept: dict[str, deque[tuple[Item, int]]] = {}
        for client, queue in self._queues.items():
            for item, tokens in queue:
                if unwanted(item):
                    gone.append(item)
                else:
                    kept.setdefault(client, deque()).append((item, tokens))
        if gone:
            self._queues = kept
            self._forget()
        return gone

    def _forget(self) -> None:
        """Drops clients with nothing waiting who would come back level with others; the most given stay longest."""
        least = min((self._given[client] for client in self._queues), default=None)
        away = [client for client in self._given if client not in self._queues]
        owed = [client for client in away if least is not None and self._given[client] > least]
        kept = sorted(owed, key=lambda client: self._given[client])[-self._most :]
        self._given = Counter({client: self._given[client] for client in (*self._queues, *kept)})
