"""Meter of one rendering: steps spent, and the largest text or list that a template may make.

A template is somebody else's program. Its loops, calls and operators spend steps, each as many as it costs in time
(about a microsecond a step), and whatever they make is measured before it is made. Both bounds grow with the
conversation, so that long chats are rendered and endless templates are not: some published templates look, for each
message, at all others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sized
from contextvars import ContextVar
from typing import Any

from jinja2.utils import Namespace

# A conversation of a thousand messages takes 100,000 steps by most published templates, and 8 million by one.
_STEPS, _STEPS_A_PAIR = 400_000, 12
_SIZE = 1 << 22
# What a thing in a list counts beside its text: a list of a million is as large as a text of 16 million.
_ITEM = 16
_BITS = 1 << 13


class BoundError(Exception):
    """A template that does more than any chat needs; the message goes on from "the chat template"."""


class Meter:
    """Meter that counts down one rendering's steps.

    `given` is the size of what the template is given, `messages` their number.
    """

    __slots__ = ("_left", "most")

    def __init__(self, given: int, messages: int) -> None:
        self._left = _STEPS + given + _STEPS_A_PAIR * messages**2
        self.most = _SIZE + 2 * given

    def spend(self, steps: int) -> None:
        """Takes steps off; `BoundError` when none are left."""
        self._left -= steps
        if self._left < 0:
            raise BoundError("takes too many steps: its loops or calls have no end that a chat needs")

    def allow(self, size: int) -> None:
        """Spends what it takes to make something of `size` characters; `BoundError` if that is too large."""
        if size > self.most:
            raise BoundError(f"makes a text or list of more than {self.most} characters")
        self.spend(size >> 8)

    def note(self, value: Any) -> Any:
        """The value, once it is paid for."""
        if isinstance(value, str | bytes):
            self.allow(len(value))
        elif isinstance(value, list | tuple | dict | set):
            self.allow(_ITEM * len(value))
        elif isinstance(value, int):
            self.whole(value)
        return value

    def whole(self, value: Any) -> None:
        """Refuses numbers with more digits than any count has."""
        if isinstance(value, int) and value.bit_length() > _BITS:
            raise BoundError("makes a number of thousands of digits")

    def weigh(self, value: Any) -> int:
        """About how many characters the text of a value has, all that it holds counted; it is paid for."""
        if isinstance(value, str):
            size = len(value)
        elif value is None or isinstance(value, bool | int | float):
            self.whole(value)
            return 0
        else:
            size = self._walk(value)
        self.allow(size)
        return size

    def _walk(self, value: Any) -> int:
        size, stack = 0, [value]
        while stack:
            item = stack.pop()
            size += len(item) + _ITEM if isinstance(item, str | bytes) else _ITEM
            if size > self.most:
                return size
            stack.extend(_inside(item))
        self.spend(size // (4 * _ITEM))
        return size

    def steps(self, items: Iterable[Any], cost: int) -> "Steps":
        """The same items; each one costs steps when a loop takes it."""
        return Steps(self, items, cost)


class Steps:
    """Items of a loop, each paid for. It has a length where they have one."""

    def __init__(self, meter: Meter, items: Iterable[Any], cost: int) -> None:
        self._meter, self._items, self._cost = meter, items, cost

    def __iter__(self) -> Iterator[Any]:
        spend, cost = self._meter.spend, self._cost
        for item in self._items:
            spend(cost)
            yield item

    def __len__(self) -> int:
        if not isinstance(self._items, Sized):
            raise TypeError("these items have no length")
        return len(self._items)


def _inside(value: Any) -> Iterable[Any]:
    """Values that the text of a value shows beside itself."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, Namespace):
        return [object.__getattribute__(value, "_Namespace__attrs")]
    return ()


def measure(value: Any) -> int:
    """The size of what a template is given."""
    size, stack = 0, [value]
    while stack:
        item = stack.pop()
        size += len(item) + _ITEM if isinstance(item, str) else _ITEM
        stack.extend(_inside(item))
    return size


METER: ContextVar[Meter] = ContextVar("meter")
