"""Texts that were seen, as a tree of tokens, with states at some places of it.

A state cannot be taken back to an earlier token, so states are kept where texts are likely to part or to go on:
where the caller says. Between two of them a text is read again from the nearer one before. Rows are immutable
and share their pages of keys and values, so that a kept state costs its recurrent part and the pages that nothing
else holds. When the memory for them is used up, the state goes whose loss costs the fewest tokens read again for
each byte that it frees, those longest unused and farthest from the ends of texts first. Where a text ends it is most
likely to go on: ends count for more, however near the state before is.

What models without recurrence have seen can be cut anywhere: one state serves every place before it.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

from ..state.sequence import SequenceState

Cut = Callable[[SequenceState, int], SequenceState]

# Tokens of texts that are remembered, with or without states: what a miss is told from.
_MOST_TOKENS = 1 << 20

# What the state of a text's end counts for beside the tokens that its loss costs, in distances between kept states.
# Without it a chat's end, a short answer away from the prompt's, goes before all that other chats keep.
_END = 4


class Match(NamedTuple):
    """How much of a text is known: a state after `cached` tokens, and `known` tokens in all."""

    row: SequenceState | None
    cached: int
    known: int
    dropped: bool  # whether a state in between had to go


class _Held(NamedTuple):
    """A row that is kept, the bytes of its recurrent part, and its pages of keys and values with theirs."""

    row: SequenceState
    fixed: int
    pages: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, row: SequenceState) -> "_Held":
        fixed = sum(tensor.nbytes for layer in row.layers for tensor in layer.recurrent.values())
        # Counted once: what is dropped next is sought among all rows at every new one.
        pages = (page for layer in row.layers if layer.kv for page in layer.kv.pages)
        return cls(row, fixed, tuple((id(page), page.k.nbytes() + page.v.nbytes()) for page in pages))


class _Node:
    """The end of a run of tokens that follow `parent`'s."""

    __slots__ = ("children", "depth", "dropped", "edge", "farthest", "held", "parent", "used")

    def __init__(self, parent: "_Node | None", edge: tuple[int, ...], clock: int) -> None:
        self.parent = parent
        self.edge = edge
        self.children: dict[int, _Node] = {}
        self.depth: int = (parent.depth if parent else 0) + len(edge)
        self.farthest = self.depth  # the depth of the longest text that passes here
        self.held: _Held | None = None
        self.dropped = False
        self.used = clock


class _Ledger:
    """Bytes of rows, pages that several rows share counted once."""

    def __init__(self) -> None:
        self.total = 0
        self._holders: Counter[int] = Counter()

    def add(self, held: _Held) -> None:
        self.total += held.fixed
        for page, size in held.pages:
            self.total += 0 if self._holders[page] else size
            self._holders[page] += 1

    def remove(self, held: _Held) -> None:
        self.total -= self.alone(held)
        for page, _ in held.pages:
            self._holders[page] -= 1
            if not self._holders[page]:
                del self._holders[page]

    def alone(self, held: _Held) -> int:
        """What nothing else holds of a row."""
        return held.fixed + sum(size for page, size in held.pages if self._holders[page] == 1)


class PrefixCache:
    """States of one model and its variants at one precision. `replay` is how many tokens are readily read again.

    `of` says whose texts are meant, of which variant and which salt: a tree for each, one memory for all.
    """

    def __init__(self, budget: int, replay: int, cut: Cut | None = None) -> None:
        """`budget` in bytes; `cut(row, length)` shortens a row, where the model's states can be cut."""
        self._budget = budget
        self._replay = replay
        self._cut = cut
        self._ledger = _Ledger()
        self._clock = 0
        self._roots: dict[Hashable, _Node] = {}
        self._kept: set[_Node] = set()
        self._tokens = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all states kept."""
        return self._ledger.total

    @property
    def states(self) -> int:
        """Number of states kept."""
        return len(self._kept)

    def match(self, ids: Sequence[int], of: Hashable = None) -> Match:
        """The longest state of a beginning of `ids` that leaves at least one token to run."""
        self._clock += 1
        ids = tuple(ids)
        node = found = self._root(of)
        dropped = False
        below: _Node | None = None  # the node whose edge the text leaves within, or where it ends
        known = 0
        while (child := node.children.get(ids[known]) if known < len(ids) else None) is not None:
            same = _common(child.edge, ids, known)
            known += same
            child.used = self._clock
            if same < len(child.edge):
                below = child
                break
            node = below = child
            if child.depth < len(ids):
                found, dropped = (child, False) if child.held else (found, dropped or child.dropped)
        if self._cut is not None and below is not None and (held := _any_row(below)) is not None:
            length = min(known, len(ids) - 1)
            if length > found.depth:
                return Match(self._cut(held, length), length, known, False)
        row = found.held.row if found.held else None
        return Match(row, found.depth if row else 0, known, dropped)

    def add(self, ids: Sequence[int], row: SequenceState, of: Hashable = None) -> None:
        """Keeps `row`, which has seen exactly `ids`, as far as memory allows."""
        node = self._place(tuple(ids), of)
        if node.held is not None:
            self._ledger.remove(node.held)
        node.held, node.dropped = _Held.of(row), False
        self._ledger.add(node.held)
        self._kept.add(node)
        while self._ledger.total > self._budget and self._kept:
            self._drop(min(self._kept, key=self._worth))
        self._forget()

    def along(self, ids: Sequence[int], of: Hashable = None) -> list[tuple[int, SequenceState]]:
        """The states kept of beginnings of `ids`, shortest first."""
        ids, node, found = tuple(ids), self._root(of), []
        while (child := node.children.get(ids[node.depth]) if node.depth < len(ids) else None) is not None:
            if _common(child.edge, ids, node.depth) < len(child.edge):
                break
            node = child
            if node.held is not None:
                found.append((node.depth, node.held.row))
        return found

    def clear(self) -> None:
        """Forgets everything."""
        self._roots = {}
        self._ledger, self._kept, self._tokens = _Ledger(), set(), 0

    def _root(self, of: Hashable) -> _Node:
        """The tree of `of`; an empty one, which is not kept, where there is none."""
        return self._roots.get(of) or _Node(None, (), self._clock)

    def _place(self, ids: tuple[int, ...], of: Hashable) -> _Node:
        """The node at the end of `ids`, made where there is none."""
        node, at = self._roots.setdefault(of, self._root(of)), 0
        while at < len(ids):
            node.farthest = max(node.farthest, len(ids))
            child = node.children.get(ids[at])
            if child is None:
                child = node.children[ids[at]] = _Node(node, ids[at:], self._clock)
                self._tokens += len(child.edge)
            same = _common(child.edge, ids, at)
            node = child if same == len(child.edge) else _split(child, same)
            node.used = self._clock
            at += same
        return node

    def _worth(self, node: _Node) -> float:
        """Tokens that would have to be read again without the node's state, by chance of use and byte."""
        assert node.held is not None
        before = node.parent
        while before is not None and before.held is None:
            before = before.parent
        lost = node.depth - (before.depth if before else 0) + (0 if node.children else _END * self._replay)
        unused = 1 + self._clock - node.used
        from_end = 1 + (node.farthest - node.depth) / self._replay
        return lost / (unused * from_end * max(1, self._ledger.alone(node.held)))

    def _drop(self, node: _Node) -> None:
        assert node.held is not None
        self._ledger.remove(node.held)
        self._kept.remove(node)
        node.held, node.dropped = None, True

    def _forget(self) -> None:
        """Lets go of the texts longest unused that have no state: of more than must go, since all are looked at."""
        if self._tokens <= _MOST_TOKENS:
            return
        nodes = ((of, node) for of, root in self._roots.items() for node in _nodes(root))
        leaves = [(node.used, id(node), of, node) for of, node in nodes if _is_idle(node)]
        heapq.heapify(leaves)
        while self._tokens > _MOST_TOKENS - _MOST_TOKENS // 8 and leaves:
            *_, of, leaf = heapq.heappop(leaves)
            parent = leaf.parent
            assert parent is not None
            del parent.children[leaf.edge[0]]
            self._tokens -= len(leaf.edge)
            if _is_idle(parent):
                heapq.heappush(leaves, (parent.used, id(parent), of, parent))
            elif parent.parent is None and not parent.children:
                del self._roots[of]


def _is_idle(node: _Node) -> bool:
    """Whether nothing is lost with a node but that its text was seen."""
    return not node.children and node.held is None and node.parent is not None


def _split(node: _Node, at: int) -> _Node:
    """A new node `at` tokens into the edge of `node`, between it and its parent."""
    assert node.parent is not None
    middle = _Node(node.parent, node.edge[:at], node.used)
    middle.farthest = node.farthest
    node.parent.children[node.edge[0]] = middle
    node.parent, node.edge = middle, node.edge[at:]
    middle.children[node.edge[0]] = node
    return middle


def _common(edge: tuple[int, ...], ids: tuple[int, ...], at: int) -> int:
    """How many tokens of `edge` come next in `ids`."""
    if ids[at : at + len(edge)] == edge:
        return len(edge)
    low, high = 0, min(len(edge), len(ids) - at)
    while low < high:
        middle = (low + high + 1) // 2
        if edge[low:middle] == ids[at + low : at + middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _any_row(node: _Node) -> SequenceState | None:
    return next((found.held.row for found in _nodes(node) if found.held is not None), None)


def _nodes(node: _Node) -> Iterator[_Node]:
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())
