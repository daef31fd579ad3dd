"""One sequence of a request, from its admission to its last token.

It knows tokens and positions: which parts of its prompt prefill passes and then decode steps are still to run, its next
tokens from logits, and its draft tokens before there are any logits. Its state is the runner's.
"""

import sys
from collections import deque
from collections.abc import Collection
from collections.abc import Sequence as Items
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..generation.continuation import Continuation, Token
from .request import Request, RequestHandle
from .speculation import DraftSource, PromptLookup

# Legend: n = tokens of the sequence that went through the model in one pass, V = vocabulary.

# Acceptance rate, before anything is learnt, of tokens that a constraint forces: only their cut into tokens may differ.
_FORCED = 0.95


class Chunk(NamedTuple):
    """Part [begin, end) of a prompt that one prefill pass runs, and the positions at which snapshots are taken."""

    begin: int
    end: int
    snapshot_positions: tuple[int, ...]


class PromptPlan(NamedTuple):
    """Plan of a prompt: chunks by prefill passes, one each, and then the parts of its suffix, a decode step each.

    snapshot_positions: those in the suffix.
    """

    chunks: tuple[Chunk, ...]
    suffix: tuple[tuple[int, ...], ...]
    snapshot_positions: tuple[int, ...]


class DecodeInput(NamedTuple):
    """Input of one sequence to a decode step: tokens, the last `draft_count` of which may be rolled back."""

    sequence: "Sequence"
    tokens: Items[int]
    draft_count: int = 0

    @property
    def slot(self) -> int:
        """Slot of the sequence."""
        return self.sequence.slot

    @property
    def without_draft(self) -> "DecodeInput":
        """The input without its draft tokens."""
        return DecodeInput(self.sequence, self.tokens[: len(self.tokens) - self.draft_count])


class Sequence:
    """Sequence number `index` of a request.

    The first one of a request runs the prompt; the others, its `forks`, begin where the prompt's passes end.
    """

    def __init__(
        self,
        handle: RequestHandle,
        index: int,
        continuation: Continuation,
        ends: Collection[int] = (),
        limit: int | None = None,
    ) -> None:
        """`ends` are the ids that end a sequence, `limit` is how many tokens, prompt and all, there may be."""
        self.handle = handle
        self.index = index
        self.continuation = continuation
        self.slot = -1  # until it is admitted
        self.position = 0  # tokens of `ids` that the model has been given
        self.chunks: deque[Chunk] = deque()
        self.snapshot_positions: Items[int] = ()  # in the suffix
        self.forks: list[Sequence] = []
        self.can_roll_back = False
        self.ended = False
        self.draft: list[int] = []
        self.source: DraftSource  # of `draft`
        self.source = self._lookup = PromptLookup(continuation.seen)
        self._constraint = DraftSource(_FORCED)
        self._ends = ends
        self._limit = limit
        self._due: deque[Items[int]] = deque()  # parts of the suffix, and then always the last token

    @property
    def request(self) -> Request:
        """The request that the sequence is of."""
        return self.handle.request

    @property
    def ids(self) -> Items[int]:
        """Tokens of the prompt and those generated so far."""
        return self.continuation.seen

    @property
    def suffix_length(self) -> int:
        """Number of the prompt's tokens that decode steps run, if no pass comes before; else 0."""
        return 0 if self.chunks else sum(map(len, self._due))

    @property
    def has_input(self) -> bool:
        """Whether a decode step can take the sequence: not before a pass over the prompt has given its first token."""
        return bool(self._due)

    def follow_plan(self, plan: PromptPlan, position: int) -> None:
        """Begins with `position` tokens of the prompt known; forks get no chunks."""
        self.position = position
        self.chunks = deque(plan.chunks if self.index == 0 else ())
        self.snapshot_positions = plan.snapshot_positions
        self._due = deque(plan.suffix)

    def propose(self, most: int) -> None:
        """Fills `draft` with up to `most` tokens, and no more than may still be generated."""
        room = (self._limit or sys.maxsize) - len(self.ids)
        most = max(0, min(most, self.continuation.left - 1, room))
        in_prompt = sum(map(len, self._due)) > 1
        try:
            forced = [] if in_prompt else self.continuation.forced()
        except Exception:  # `choose_tokens` meets it too, where it ends this request alone
            forced = []
        self.source = self._constraint if forced else self._lookup
        self.draft = [] if in_prompt else forced[:most] or self._lookup.propose(most)

    def next_input(self, draft_count: int) -> DecodeInput:
        """Input of the next decode step: the tokens that are due, and so many of the draft tokens."""
        draft = self.draft[:draft_count]
        return DecodeInput(self, [*self._due[0], *draft], len(draft))

    def choose_tokens(self, logits_nV: NDArray[np.float32]) -> list[Token]:
        """The tokens after those of `next_input`, up to the first that differs from the draft.

        Each is chosen as without a draft. None if more of the prompt is due. After a pass over the whole prompt, when
        nothing is due, `logits_nV` are those of its last token.
        """
        given = len(self._due.popleft()) if self._due else 1
        if self._due:
            self.position += given
            return []
        tokens = [self._choose(logits_nV[given - 1])]
        if self.draft:
            for logits_V, drafted in zip(logits_nV[given:], self.draft):
                if tokens[-1].finish is not None or tokens[-1].id != drafted:
                    break
                tokens.append(self._choose(logits_V))
            self.source.learn(self.draft, [token.id for token in tokens])
        self._due.append((tokens[-1].id,))
        self.position = len(self.ids) - 1
        return tokens

    def _choose(self, logits_V: NDArray[np.float32]) -> Token:
        room = 1 if self._limit is None else self._limit - len(self.ids)
        return self.continuation.step(logits_V, self._ends, room)
