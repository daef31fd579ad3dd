"""Penalties on tokens that came before, and biases: what is done to the logits before a token is chosen.

Counts are kept as tokens come, so that a token costs what it changes: the ids that were seen, never the vocabulary.

Legend: V = vocabulary, S = distinct tokens that were counted.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .sampling import Sampling


class _Counts:
    """Distinct tokens in arrays that grow, and how often each came."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        ids, counts = np.unique(np.fromiter(tokens, np.int64), return_counts=True)
        self._ids, self._counts = ids, counts.astype(np.float32)
        self._place = {token: place for place, token in enumerate(ids.tolist())}

    def push(self, token: int) -> None:
        """Counts one more token."""
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._ids):
            room = max(64, len(self._ids))
            self._ids = np.concatenate([self._ids, np.zeros(room, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(room, np.float32)])
        self._ids[place] = token
        self._counts[place] += 1

    @property
    def ids_S(self) -> NDArray[np.int64]:
        """The tokens."""
        return self._ids[: len(self._place)]

    @property
    def counts_S(self) -> NDArray[np.float32]:
        """Number of times that each token came."""
        return self._counts[: len(self._place)]


class Penalties:
    """Penalties of one sequence by its tokens so far, and the biases of its sampling."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int] = ()) -> None:
        """`prompt` counts for the repetition penalty only."""
        self._sampling = sampling
        self._seen = _Counts(prompt) if sampling.repetition_penalty != 1 else None
        self._made = _Counts() if sampling.presence_penalty or sampling.frequency_penalty else None
        self._biased = np.fromiter(sampling.logit_bias, np.int64)
        self._biases = np.fromiter(sampling.logit_bias.values(), np.float32)

    def push(self, token: int) -> None:
        """Counts a token that was generated."""
        for counts in (self._seen, self._made):
            if counts is not None:
                counts.push(token)

    def applied(self, logits_V: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits with penalties and biases; `logits_V` itself is left as it is."""
        if self._seen is None and self._made is None and not len(self._biased):
            return logits_V
        asked, out = self._sampling, logits_V.copy()
        if self._seen is not None:
            values, penalty = out[self._seen.ids_S], np.float32(asked.repetition_penalty)
            out[self._seen.ids_S] = np.where(values > 0, values / penalty, values * penalty)
        if self._made is not None:
            out[self._made.ids_S] -= asked.frequency_penalty * self._made.counts_S + np.float32(asked.presence_penalty)
        out[self._biased] += self._biases
        return out
