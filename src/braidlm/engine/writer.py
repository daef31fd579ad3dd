"""One text that is being written: its next tokens from logits, and what they may be before there are any."""

import sys
from collections.abc import Collection, Sequence

from torch import Tensor

from ..continuation import Continuation, Token
from .speculation import Lookup

# Legend: n = tokens that went through the model in one pass, V = vocabulary.


class Writer:
    """The text of copy number `copy` of a request."""

    def __init__(self, copy: int, text: Continuation, ends: Collection[int], limit: int | None) -> None:
        """`ends` are the ids that end a text, `limit` is how many tokens the model takes."""
        self.copy = copy
        self.text = text
        self.guessed: list[int] = []
        self.lookup = Lookup(text.seen)
        self._ends = ends
        self._limit = limit

    def guess(self, most: int) -> None:
        """Fills `guessed` with up to `most` tokens, and no more than may still be written."""
        room = (self._limit or sys.maxsize) - len(self.text.seen)
        self.guessed = self.lookup.guess(min(most, self.text.left - 1, room))

    def next(self, guesses: int) -> list[int]:
        """What the model is to be given: the last token and so many of the guessed ones."""
        return [self.text.seen[-1], *self.guessed[:guesses]]

    def follow(self, logits_nV: Sequence[Tensor] | Tensor) -> list[Token]:
        """The tokens that come after those of `next`, chosen as ever, up to the first that was not guessed."""
        tokens = [self._choose(logits_nV[0])]
        for logits_V, guess in zip(logits_nV[1:], self.guessed):
            if tokens[-1].finish is not None or tokens[-1].id != guess:
                break
            tokens.append(self._choose(logits_V))
        self.lookup.learn(self.guessed, [token.id for token in tokens])
        return tokens

    def _choose(self, logits_V: Tensor) -> Token:
        room = 1 if self._limit is None else self._limit - len(self.text.seen)
        return self.text.step(logits_V, self._ends, room)
