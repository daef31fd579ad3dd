"""One sequence in decode: its next tokens from logits, and its draft tokens before there are any logits."""

import sys
from collections import deque
from collections.abc import Collection, Sequence

from torch import Tensor

from ..generation.continuation import Continuation, Token
from .runner import DecodeInput
from .speculation import DraftSource, PromptLookup

# Legend: n = tokens of the sequence that went through the model in one pass, V = vocabulary.

# Acceptance rate, before anything is learnt, of tokens that a constraint forces: only their cut into tokens may differ.
_FORCED = 0.95


class DecodingSequence:
    """Sequence number `index` of a request."""

    def __init__(
        self,
        index: int,
        continuation: Continuation,
        ends: Collection[int],
        limit: int | None,
        suffix: Sequence[Sequence[int]] = (),
    ) -> None:
        """`ends` are the ids that end a sequence, `limit` is how many tokens the model takes.

        `suffix` is what the model has not been given of the prompt yet, in parts, one a step; if nothing is left,
        `choose_tokens` comes first.
        """
        self.index = index
        self.continuation = continuation
        self.draft: list[int] = []
        self.source: DraftSource  # of `draft`
        self.source = self._lookup = PromptLookup(continuation.seen)
        self._constraint = DraftSource(_FORCED)
        self._ends = ends
        self._limit = limit
        self._due = deque(suffix)  # the prompt's parts, and then always the last token

    @property
    def position(self) -> int:
        """Number of the sequence's tokens that the model has been given."""
        return len(self.continuation.seen) - sum(map(len, self._due))

    def propose(self, most: int) -> None:
        """Fills `draft` with up to `most` tokens, and no more than may still be generated."""
        room = (self._limit or sys.maxsize) - len(self.continuation.seen)
        most = max(0, min(most, self.continuation.left - 1, room))
        in_prompt = self.position < len(self.continuation.seen) - 1
        forced = [] if in_prompt else self.continuation.forced()
        self.source = self._constraint if forced else self._lookup
        self.draft = [] if in_prompt else forced[:most] or self._lookup.propose(most)

    def next_input(self, slot: int, draft_count: int) -> DecodeInput:
        """Input of the next decode step: the tokens that are due, and so many of the draft tokens."""
        draft = self.draft[:draft_count]
        return DecodeInput(slot, [*self._due[0], *draft], len(draft))

    def choose_tokens(self, logits_nV: Sequence[Tensor] | Tensor) -> list[Token]:
        """The tokens after those of `next_input`, up to the first that differs from the draft.

        Each is chosen as without a draft. None if more of the prompt is due.
        """
        given = len(self._due.popleft()) if self._due else 1
        if self._due:
            return []
        tokens = [self._choose(logits_nV[given - 1])]
        for logits_V, drafted in zip(logits_nV[given:], self.draft):
            if tokens[-1].finish is not None or tokens[-1].id != drafted:
                break
            tokens.append(self._choose(logits_V))
        self.source.learn(self.draft, [token.id for token in tokens])
        self._due.append((tokens[-1].id,))
        return tokens

    def _choose(self, logits_V: Tensor) -> Token:
        room = 1 if self._limit is None else self._limit - len(self.continuation.seen)
        return self.continuation.step(logits_V, self._ends, room)
