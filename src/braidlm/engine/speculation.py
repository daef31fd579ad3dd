"""Guessing the next tokens of a text from the text itself, and whether that pays.

Text that repeats itself (code, quotations, a document and its summary) often goes on as it did before: after
the last few tokens' earlier appearance comes what is guessed to come now (prompt lookup, Saxena 2023). Guesses
are run through the model in one pass with the token that they follow, and kept as far as the model, choosing
as it always does, chooses them: so they change when tokens come, and never which. A rule that leaves the text no
choice (the names of a schema's fields) is a second source, whose guesses nearly always come true.

It knows tokens and seconds, and neither models nor states.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..system.choices import MOST_SPECULATIVE_TOKENS

# Lengths of the ends of a text that are looked up, the longest first.
_ENDS = (3, 2)
# Guesses a text that a pass may have; as many as pay are taken.
_LENGTHS = (1, 2, 4, 8, MOST_SPECULATIVE_TOKENS)
# How much a single guess, and a single pass, moves what was learnt before.
_LEARN_HITS, _LEARN_SECONDS = 0.1, 0.3
# Passes after which a time that was not measured again is forgotten, so that it is.
_FORGET = 256
# Guessing must promise so much more speed than not guessing.
_GAIN = 1.03


class DraftSource:
    """Source of draft tokens of one sequence, with its acceptance rate."""

    def __init__(self, hits: float) -> None:
        self.hits = hits  # how likely a guess comes true

    def learn(self, guesses: Sequence[int], tokens: Sequence[int]) -> None:
        """`tokens` came where `guesses` had been expected; what comes after the first wrong one says nothing."""
        for guess, token in zip(guesses, tokens):
            self.hits += _LEARN_HITS * ((guess == token) - self.hits)
            if guess != token:
                break


class PromptLookup(DraftSource):
    """What may come next in one text, which grows."""

    def __init__(self, seen: Sequence[int]) -> None:
        """`seen` is the text itself, not a copy."""
        super().__init__(hits=0.5)
        self._seen = seen
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def guess(self, most: int) -> list[int]:
        """Up to `most` tokens."""
        seen = self._seen
        # An end of the text is known once a token follows it.
        for after in range(self._indexed, len(seen)):
            for size in _ENDS:
                if size <= after:
                    self._after[tuple(seen[after - size : after])] = after
        self._indexed = len(seen)
        for size in _ENDS:
            after = self._after.get(tuple(seen[-size:]), len(seen)) if size <= len(seen) else len(seen)
            if after < len(seen):
                return list(seen[after : after + most])
        return []


class _Time(NamedTuple):
    """Seconds of a pass, and when it was measured last."""

    seconds: float
    at: int


class Speculation:
    """How many guesses pay: learnt from the time of passes of each size, and from the guesses that came true."""

    def __init__(self, most: int) -> None:
        """`most` guesses a text; 0 for none."""
        self.most = most
        self._times: dict[int, _Time] = {}
        self._passes = 0

    def length(self, texts: Sequence[tuple[float, int]]) -> int:
        """How many guesses each of the texts may have in the next pass.

        `texts`: of each how likely a guess comes true, and how many guesses there are.
        """
        base = self._speed(texts, 0)
        best, found = base * _GAIN, 0
        for length in _LENGTHS:
            if length > self.most or length > max((count for _, count in texts), default=0):
                break
            speed = self._speed(texts, length)
            if speed > best:
                best, found = speed, length
        return found

    def measured(self, rows: int, seconds: float) -> None:
        """A pass of `rows` tokens took so long."""
        self._passes += 1
        known = self._times.get(rows)
        self._times[rows] = _Time(
            seconds if known is None else known.seconds + _LEARN_SECONDS * (seconds - known.seconds), self._passes
        )
        self._times = {rows: time for rows, time in self._times.items() if self._passes - time.at < _FORGET}

    def _speed(self, texts: Sequence[tuple[float, int]], length: int) -> float:
        """Tokens a second that are to be expected."""
        rows, tokens = 0, 0.0
        for hits, count in texts:
            taken = min(length, count)
            rows += 1 + taken
            tokens += sum(hits**n for n in range(taken + 1))
        return tokens / self._seconds(rows)

    def _seconds(self, rows: int) -> float:
        """Of a pass; of a size that was not tried, as little as a smaller one took, so that it is tried."""
        if rows in self._times:
            return self._times[rows].seconds
        return max((time.seconds for size, time in self._times.items() if size < rows), default=1.0)
