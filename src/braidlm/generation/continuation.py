"""Continuation of one sequence: from logits to tokens and text, with stop texts and the end.

It knows nothing of models and states; the naive loop and the engine both generate with it.

Legend: V = vocabulary.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..text.marked_stream import Detokenizer
from ..text.marks import partial
from .choice import choose
from .penalties import Penalties
from .sampling import Sampling


class Token(NamedTuple):
    """One generated token.

    `text` is what became certain with it ("" while a character or a stop text is incomplete);
    `finish` is "stop" or "length" on the last token. `top` holds the most likely ids with their
    log probabilities, where `Sampling.top_logprobs` asked for them.
    """

    id: int
    text: str
    logprob: float
    finish: str | None
    top: tuple[tuple[int, float], ...] = ()


class Constraint(Protocol):
    """Constraint of one sequence: a rule that its text must follow, and how far it is fulfilled."""

    def allowed(self) -> NDArray[np.bool_] | None:
        """Mask of the tokens that may come next, [V]; always at least one. None: every token."""
        ...

    def forced(self) -> list[int]:
        """The tokens that most likely come next, where the rule leaves the text no choice; none if it does."""
        ...

    def push(self, token: int) -> None:
        """Goes on by a token that was chosen."""
        ...

    def finished(self) -> bool:
        """Whether nothing but an end may follow."""
        ...


class _Silent:
    """Detokenizer of models without a tokenizer: no text."""

    def push(self, token: int) -> str:
        return ""

    def flush(self) -> str:
        return ""


class StopTexts:
    """Filter that holds back text which may turn out to begin one of the `stops`."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that can be shown, and whether a stop text was completed."""
        if not self._stops:
            return text, False
        self._held += text
        places = ((self._held.find(stop), len(stop)) for stop in self._stops)
        # Of several, the one that is complete first: so it does not matter how the text was cut.
        found = min(((at + size, at) for at, size in places if at >= 0), default=None)
        if found is not None:
            return self._held[: found[1]], True
        keep = partial(self._held, self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown, False

    def flush(self) -> str:
        """The text that is still held back."""
        held, self._held = self._held, ""
        return held


class Continuation:
    """Tokens and text that are generated after one prompt."""

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        detokenizer: Detokenizer | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        """`detokenizer` None: no text is made of the tokens. `constraint` narrows the choice of each token."""
        self.seen = list(prompt)
        self.sampling = sampling
        self._penalties = Penalties(sampling, prompt)
        self.generator = torch.Generator()
        if sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(sampling.seed)
        self._detokenizer = detokenizer or _Silent()
        self._constraint = constraint
        self._stops = StopTexts(sampling.stop)
        self._made = 0

    @property
    def left(self) -> int:
        """Number of tokens that may still be generated."""
        return self.sampling.max_tokens - self._made

    def forced(self) -> list[int]:
        """The tokens that the rule for the text leaves no choice about, if there is one and it does."""
        return [] if self._constraint is None else self._constraint.forced()

    def step(self, logits_V: NDArray[np.float32], ends: Collection[int], room: int) -> Token:
        """The next token; `room` is how many more the context holds after those that were seen."""
        allowed = None if self._constraint is None else self._constraint.allowed()
        token, logprob, top = choose(logits_V, self.sampling, self._penalties, self.generator, allowed)
        self.seen.append(token)
        self._penalties.push(token)
        self._made += 1
        if self._constraint is not None and token not in ends:
            self._constraint.push(token)
        shown, finish = self._shown(token, ends)
        if finish is None and (self._made >= self.sampling.max_tokens or room < 1):
            shown, finish = shown + self._rest(), "length"
        return Token(token, shown, logprob, finish, top)

    def _shown(self, token: int, ends: Collection[int]) -> tuple[str, str | None]:
        """The text that is certain with `token`, and "stop" if it ends the text."""
        if token in ends:
            return self._rest(), "stop"
        shown, stopped = self._stops.push(self._detokenizer.push(token))
        if stopped:
            return shown, "stop"
        if self._constraint is not None and self._constraint.finished():
            return shown + self._rest(), "stop"
        return shown, None

    def _rest(self) -> str:
        shown, stopped = self._stops.push(self._detokenizer.flush())
        return shown if stopped else shown + self._stops.flush()
