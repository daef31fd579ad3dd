"""One text that is being written: its next tokens from logits, and what they may be before there are any."""

import sys
from collections import deque
from collections.abc import Collection, Sequence

from torch import Tensor

from ..generation.continuation import Continuation, Token
from .runner import DecodeInput
from .speculation import DraftSource, PromptLookup

# Legend: n = tokens that went through the model in one pass, V = vocabulary.

# How likely a token comes that the rule for a text leaves no choice about: only its cut into tokens may differ.
_FORCED = 0.95


class Writer:
    """The text of copy number `copy` of a request."""

    def __init__(
        self,
        copy: int,
        text: Continuation,
        ends: Collection[int],
        limit: int | None,
        rest: Sequence[Sequence[int]] = (),
    ) -> None:
        """`ends` are the ids that end a text, `limit` is how many tokens the model takes.

        `rest` is what the model has not been given of the prompt yet, in parts, one a step; if nothing is left,
        `follow` comes first.
        """
        self.copy = copy
        self.text = text
        self.guessed: list[int] = []
        self.source: DraftSource  # of what is guessed
        self.source = self._lookup = PromptLookup(text.seen)
        self._rule = DraftSource(_FORCED)
        self._ends = ends
        self._limit = limit
        self._due = deque(rest)  # the prompt's parts, and then always the last token

    @property
    def position(self) -> int:
        """How many of the text's tokens the model has been given."""
        return len(self.text.seen) - sum(map(len, self._due))

    def guess(self, most: int) -> None:
        """Fills `guessed` with up to `most` tokens, and no more than may still be written."""
        room = (self._limit or sys.maxsize) - len(self.text.seen)
        most = max(0, min(most, self.text.left - 1, room))
        reading = self.position < len(self.text.seen) - 1
        forced = [] if reading else self.text.forced()
        self.source = self._rule if forced else self._lookup
        self.guessed = [] if reading else forced[:most] or self._lookup.guess(most)

    def next(self, slot: int, guesses: int) -> DecodeInput:
        """What the model is to be given: what is due, and so many of the guessed tokens."""
        guessed = self.guessed[:guesses]
        return DecodeInput(slot, [*self._due[0], *guessed], len(guessed))

    def follow(self, logits_nV: Sequence[Tensor] | Tensor) -> list[Token]:
        """The tokens that come after those of `next`, chosen as ever, up to the first that was not guessed.

        None if more of the prompt is due.
        """
        given = len(self._due.popleft()) if self._due else 1
        if self._due:
            return []
        tokens = [self._choose(logits_nV[given - 1])]
        for logits_V, guess in zip(logits_nV[given:], self.guessed):
            if tokens[-1].finish is not None or tokens[-1].id != guess:
                break
            tokens.append(self._choose(logits_V))
        self.source.learn(self.guessed, [token.id for token in tokens])
        self._due.append((tokens[-1].id,))
        return tokens

    def _choose(self, logits_V: Tensor) -> Token:
        room = 1 if self._limit is None else self._limit - len(self.text.seen)
        return self.text.step(logits_V, self._ends, room)
