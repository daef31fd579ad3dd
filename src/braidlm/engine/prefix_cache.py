"""Prefix cache: a radix tree of the tokens of sequences, with snapshots at some nodes.

A recurrent state cannot be taken back to an earlier token, so snapshots are kept where sequences are likely to part or
to go on: where the caller says. Tokens between two snapshots are recomputed from the one before. States are immutable
and share their KV pages, so that a snapshot costs its recurrent part and the pages that nothing else holds. When the
memory is used up, the snapshot goes whose loss costs the fewest recomputed tokens for each byte that it frees, those
longest unused and farthest from the ends of sequences first. Where a sequence ends it is most likely to go on: ends
count for more, however near the snapshot before is.

States of models without recurrence can be truncated anywhere: one snapshot serves every prefix.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

from ..state.sequence import SequenceState
from ..text.common_prefix import common_length

Truncate = Callable[[SequenceState, int], SequenceState]

# Tokens that the tree remembers, with or without snapshots: what a miss is explained from.
_MOST_TOKENS = 1 << 20

# What the snapshot of a sequence's end counts for beside the tokens that its loss costs, in snapshot intervals. Without
# it a chat's end, a short answer away from the prompt's, goes before all snapshots of other chats.
_END = 4


class Match(NamedTuple):
    """Longest known prefix of a sequence: a state after `cached` tokens, and `known` tokens in all."""

    state: SequenceState | None
    cached: int
    known: int
    dropped: bool  # whether a snapshot in between was dropped for memory


class _Held(NamedTuple):
    """State of a snapshot, the bytes of its recurrent part, and its KV pages with theirs."""

    state: SequenceState
    fixed: int
    pages: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, state: SequenceState) -> "_Held":
        fixed = sum(tensor.nbytes for layer in state.layers for tensor in layer.recurrent.values())
        # Counted once: what is dropped next is sought among all snapshots at every new one.
        pages = (page for layer in state.layers if layer.kv for page in layer.kv.pages)
        return cls(state, fixed, tuple((id(page), page.k.nbytes() + page.v.nbytes()) for page in pages))


class _Node:
    """Node of the tree: the end of a run of tokens, `edge`, that follow those of `parent`."""

    __slots__ = ("children", "depth", "dropped", "edge", "farthest", "held", "parent", "used")

    def __init__(self, parent: "_Node | None", edge: tuple[int, ...], clock: int) -> None:
        self.parent = parent
        self.edge = edge
        self.children: dict[int, _Node] = {}
        self.depth: int = (parent.depth if parent else 0) + len(edge)
        self.farthest = self.depth  # the depth of the longest sequence that passes here
        self.held: _Held | None = None
        self.dropped = False
        self.used = clock


class _Ledger:
    """Bytes of states; KV pages that several states share count once."""

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
        """Bytes of a state that no other one holds."""
        return held.fixed + sum(size for page, size in held.pages if self._holders[page] == 1)


class PrefixCache:
    """Snapshots of one model, with its adapters and initial states, at one precision.

    Each scope (adapter key and salt) has a tree of its own; all share one memory.
    """

    def __init__(self, budget: int, snapshot_interval: int, truncate: Truncate | None = None) -> None:
        """`budget` in bytes; `truncate(state, length)` shortens a state, where the model's states can be truncated."""
        self._budget = budget
        self._snapshot_interval = snapshot_interval
        self._truncate = truncate
        self._ledger = _Ledger()
        self._clock = 0
        self._roots: dict[Hashable, _Node] = {}
        self._kept: set[_Node] = set()
        self._tokens = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all snapshots."""
        return self._ledger.total

    @property
    def snapshots(self) -> int:
        """Number of snapshots."""
        return len(self._kept)

    def match(self, ids: Sequence[int], scope: Hashable = None) -> Match:
        """The longest prefix of `ids` with a snapshot that leaves at least one token to run."""
        self._clock += 1
        ids = tuple(ids)
        node = found = self._root(scope)
        dropped = False
        below: _Node | None = None  # the node within whose edge `ids` parts or ends
        known = 0
        while (child := node.children.get(ids[known]) if known < len(ids) else None) is not None:
            same = common_length(child.edge, ids, known)
            known += same
            child.used = self._clock
            if same < len(child.edge):
                below = child
                break
            node = below = child
            if child.depth < len(ids):
                found, dropped = (child, False) if child.held else (found, dropped or child.dropped)
        if self._truncate is not None and below is not None and (held := _any_state(below)) is not None:
            length = min(known, len(ids) - 1)
            if length > found.depth:
                return Match(self._truncate(held, length), length, known, False)
        state = found.held.state if found.held else None
        return Match(state, found.depth if state else 0, known, dropped)

    def add_state(self, ids: Sequence[int], state: SequenceState, scope: Hashable = None) -> None:
        """Keeps `state`, that after exactly `ids`, as far as memory allows."""
        node = self._place(tuple(ids), scope)
        if node.held is not None:
            self._ledger.remove(node.held)
        node.held, node.dropped = _Held.of(state), False
        self._ledger.add(node.held)
        self._kept.add(node)
        while self._ledger.total > self._budget and self._kept:
            self._drop(min(self._kept, key=self._worth))
        self._forget()

    def states_along(self, ids: Sequence[int], scope: Hashable = None) -> list[tuple[int, SequenceState]]:
        """States of the snapshots of prefixes of `ids` with their lengths, shortest first."""
        ids, node, found = tuple(ids), self._root(scope), []
        while (child := node.children.get(ids[node.depth]) if node.depth < len(ids) else None) is not None:
            if common_length(child.edge, ids, node.depth) < len(child.edge):
                break
            node = child
            if node.held is not None:
                found.append((node.depth, node.held.state))
        return found

    def clear(self) -> None:
        """Drops all snapshots and tokens."""
        self._roots = {}
        self._ledger, self._kept, self._tokens = _Ledger(), set(), 0

    def _root(self, scope: Hashable) -> _Node:
        """Root of a scope's tree; an empty one, which is not kept, where there is none."""
        return self._roots.get(scope) or _Node(None, (), self._clock)

    def _place(self, ids: tuple[int, ...], scope: Hashable) -> _Node:
        """The node at the end of `ids`, made where there is none."""
        node, at = self._roots.setdefault(scope, self._root(scope)), 0
        while at < len(ids):
            node.farthest = max(node.farthest, len(ids))
            child = node.children.get(ids[at])
            if child is None:
                child = node.children[ids[at]] = _Node(node, ids[at:], self._clock)
                self._tokens += len(child.edge)
            same = common_length(child.edge, ids, at)
            node = child if same == len(child.edge) else _split(child, same)
            node.used = self._clock
            at += same
        return node

    def _worth(self, node: _Node) -> float:
        """Tokens to recompute without the node's snapshot, by chance of use and byte."""
        assert node.held is not None
        before = node.parent
        while before is not None and before.held is None:
            before = before.parent
        lost = node.depth - (before.depth if before else 0) + (0 if node.children else _END * self._snapshot_interval)
        unused = 1 + self._clock - node.used
        from_end = 1 + (node.farthest - node.depth) / self._snapshot_interval
        return lost / (unused * from_end * max(1, self._ledger.alone(node.held)))

    def _drop(self, node: _Node) -> None:
        assert node.held is not None
        self._ledger.remove(node.held)
        self._kept.remove(node)
        node.held, node.dropped = None, True

    def _forget(self) -> None:
        """Drops the tokens longest unused that lead to no snapshot: more than must go, since all are looked at."""
        if self._tokens <= _MOST_TOKENS:
            return
        nodes = ((scope, node) for scope, root in self._roots.items() for node in _nodes(root))
        leaves = [(node.used, id(node), scope, node) for scope, node in nodes if _is_idle(node)]
        heapq.heapify(leaves)
        while self._tokens > _MOST_TOKENS - _MOST_TOKENS // 8 and leaves:
            *_, scope, leaf = heapq.heappop(leaves)
            parent = leaf.parent
            assert parent is not None
            del parent.children[leaf.edge[0]]
            self._tokens -= len(leaf.edge)
            if _is_idle(parent):
                heapq.heappush(leaves, (parent.used, id(parent), scope, parent))
            elif parent.parent is None and not parent.children:
                del self._roots[scope]


def _is_idle(node: _Node) -> bool:
    """Whether a node has neither a snapshot nor nodes behind it."""
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


def _any_state(node: _Node) -> SequenceState | None:
    return next((found.held.state for found in _nodes(node) if found.held is not None), None)


def _nodes(node: _Node) -> Iterator[_Node]:
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())
