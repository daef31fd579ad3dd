"""Constraint of an answer whose model may reason first: the reasoning is free, what follows it obeys the rule."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..generation.continuation import Constraint
from ..text.marked_stream import Detokenizer


@dataclass(frozen=True, kw_only=True)
class ReasoningFirst:
    """Form of the reasoning before a constrained answer.

    begin: ids of the tag that begins it; empty where the prompt has written the tag. end: the text that ends it. gap:
    ids of white space of which one may stand between that and what the rule describes.
    """

    begin: tuple[int, ...]
    end: str
    gap: tuple[int, ...] = ()


class AfterReasoning:
    """Constraint of one answer: none within the reasoning, but that the answer cannot end there."""

    def __init__(
        self,
        reasoning: ReasoningFirst,
        rule: Callable[[], Constraint],
        detokenizer: Detokenizer,
        vocab: int,
        ends: Collection[int],
    ) -> None:
        """`detokenizer` decodes the answer's tokens, tags included; `ends` are ids that end an answer."""
        self._reasoning = reasoning
        self._rule = rule()
        self._detokenizer = detokenizer
        self._free = np.ones(vocab, dtype=np.bool_)
        self._free[list(ends)] = False
        self._begin = list(reasoning.begin)
        self._place = "before" if self._begin else "inside"  # then "after" the reasoning, and in the "rule"
        self._tail = ""

    def allowed(self) -> NDArray[np.bool_] | None:
        """See `continuation.Constraint`."""
        if self._place == "inside":
            return self._free
        if self._place == "begin":
            return self._only(self._begin[:1])
        allowed = self._rule.allowed()
        more = {"before": self._begin[:1], "after": self._reasoning.gap}.get(self._place, ())
        return allowed if allowed is None or not more else allowed | self._only(more)

    def _only(self, tokens: Collection[int]) -> NDArray[np.bool_]:
        only = np.zeros_like(self._free)
        only[list(tokens)] = True
        return only

    def forced(self) -> list[int]:
        """See `continuation.Constraint`."""
        if self._place == "begin":
            return list(self._begin)
        return self._rule.forced() if self._place == "rule" else []

    def push(self, token: int) -> None:
        """See `continuation.Constraint`."""
        if self._place == "inside":
            self._tail += self._detokenizer.push(token)
            if self._reasoning.end in self._tail:
                self._place = "after"
            self._tail = self._tail[-len(self._reasoning.end) :]
        elif self._place in ("before", "begin") and token == self._begin[0]:
            del self._begin[0]
            self._place = "begin" if self._begin else "inside"
        else:
            in_gap = self._place == "after" and token in self._reasoning.gap
            self._place = "rule"
            if not in_gap:
                self._rule.push(token)

    def finished(self) -> bool:
        """See `continuation.Constraint`."""
        return self._place == "rule" and self._rule.finished()
