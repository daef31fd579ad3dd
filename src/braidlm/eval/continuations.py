"""Log-likelihoods of continuations of contexts, as multiple-choice questions ask for them.

What contexts and continuations begin with in common is read once: few-shot examples, and the question before several
answers. States are forked where sequences part, and branches that are next are read together.

Legend: T = packed tokens of a pass, D = width, V = vocabulary, P = predictions that are asked for.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..state.sequence import SequenceState
from ..system.progress import ProgressFunction
from .prefix_tree import Branch, PrefixTree
from .reader import Reader
from .sequences import PASS


class Continuation(NamedTuple):
    """Token ids of a context, at least one, and of what may follow it."""

    context: tuple[int, ...]
    ids: tuple[int, ...]

    @property
    def input(self) -> tuple[int, ...]:
        """Tokens that a model reads for it: all but the last."""
        return (self.context + self.ids)[:-1]


class ContinuationScore(NamedTuple):
    """Log-likelihood of a continuation in nats, and whether greedy generation would write it."""

    log_likelihood: float
    greedy: bool


class _Waiting(NamedTuple):
    """Branch whose tokens are next, and the state before them; None at the beginning."""

    branch: Branch
    state: SequenceState | None


def score_continuations(
    reader: Reader, asked: Sequence[Continuation], rows: int, progress: ProgressFunction | None = None
) -> list[ContinuationScore]:
    """Scores continuations, at most `rows` sequences in a pass; `reader.computed` counts the tokens that were run.

    `progress(done, total)` is called with the sequences that were read to their end. `InputError` for a continuation
    without a context or without tokens.
    """
    if any(not one.context or not one.ids for one in asked):
        raise InputError("a continuation has no context or no tokens of its own; give at least one token of each")
    return _Scorer(reader, asked, rows).run(progress)


class _Scorer:
    """Scorer of one list of continuations."""

    def __init__(self, reader: Reader, asked: Sequence[Continuation], rows: int) -> None:
        self._reader = reader
        self._asked = asked
        self._rows = rows
        inputs: dict[tuple[int, ...], list[int]] = {}
        for number, one in enumerate(asked):
            inputs.setdefault(one.input, []).append(number)
        self._inputs = sorted(inputs)
        self._numbers = [inputs[sequence] for sequence in self._inputs]
        self._sums = torch.zeros(len(asked), dtype=torch.float64)
        self._misses = torch.zeros(len(asked), dtype=torch.int64)

    def run(self, progress: ProgressFunction | None) -> list[ContinuationScore]:
        """Walks through the tree, deepest branches first, so that few states are held."""
        tree, done = PrefixTree(self._inputs), 0
        stack = self._groups(_Waiting(branch, None) for branch in tree.roots())
        while stack:
            group = stack.pop()
            after = self._read(group)
            done += sum(1 for one in group if len(self._inputs[one.branch.first]) == one.branch.end)
            stack += self._groups(
                _Waiting(branch, state)
                for one, state in zip(group, after, strict=True)
                for branch in tree.after(one.branch)
            )
            if progress is not None:
                progress(done, len(self._inputs))
        misses = self._misses.tolist()
        return [ContinuationScore(value, not misses[number]) for number, value in enumerate(self._sums.tolist())]

    def _groups(self, waiting: Iterable[_Waiting]) -> list[list[_Waiting]]:
        """Groups of branches that share a pass: at most `PASS` tokens, or one branch; the first one last."""
        groups: list[list[_Waiting]] = []
        tokens = 0
        for one in waiting:
            size = one.branch.end - one.branch.begin
            if not groups or tokens + size > PASS or len(groups[-1]) == self._rows:
                groups.append([])
                tokens = 0
            groups[-1].append(one)
            tokens += size
        return groups[::-1]

    def _read(self, group: Sequence[_Waiting]) -> tuple[SequenceState, ...]:
        """Reads the tokens of branches, adds up what is asked for there, and returns the states after them."""
        state = self._reader.new_state(len(group))
        for row, one in enumerate(group):
            if one.state is not None:
                state.set_sequence(row, one.state)
        for parts in _passes([one.branch for one in group]):
            rows = [torch.tensor(self._inputs[part.first][part.begin : part.end]) for part in parts]
            self._add(parts, self._reader.hidden(rows, state))
        return state.sequences

    def _add(self, parts: Sequence[Branch], hidden_TD: Tensor) -> None:
        """Adds the predictions that are asked for among those of a pass."""
        asked = list(self._predictions(parts))
        if not asked:
            return
        numbers_P, places_P, targets_P = torch.tensor(asked).unbind(1)
        places, which_P = places_P.unique(return_inverse=True)
        for piece in self._reader.slices(len(places)):
            logs_TV = self._reader.logs(hidden_TD[places[piece]])
            here = (which_P >= piece.start) & (which_P < piece.stop)
            row_P, target_P, number_P = which_P[here] - piece.start, targets_P[here], numbers_P[here]
            self._sums.index_add_(0, number_P, logs_TV[row_P, target_P].double())
            self._misses.index_add_(0, number_P, (logs_TV.argmax(-1)[row_P] != target_P).long())

    def _predictions(self, parts: Sequence[Branch]) -> Iterator[tuple[int, int, int]]:
        """Of each prediction that is asked for: the continuation, the place among the pass's tokens, the next token."""
        offset = 0
        for part in parts:
            for place in range(part.first, part.last):
                for number in self._numbers[place]:
                    one = self._asked[number]
                    first = len(one.context) - 1
                    for position in range(max(part.begin, first), min(part.end, first + len(one.ids))):
                        yield number, offset + position - part.begin, one.ids[position - first]
            offset += part.end - part.begin


def _passes(branches: Sequence[Branch]) -> Iterator[list[Branch]]:
    """The passes over branches: a single one, or for one long branch one for each `PASS` of its tokens."""
    if len(branches) > 1:
        yield list(branches)
        return
    (branch,) = branches
    for begin in range(branch.begin, branch.end, PASS):
        yield [branch._replace(begin=begin, end=min(begin + PASS, branch.end))]
