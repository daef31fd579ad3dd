"""Speculative decoding from the sequence itself: draft tokens, and how many of them pay.

Text that repeats itself (code, quotations, a document and its summary) often goes on as it did before: what came after
an earlier appearance of the last few tokens is the draft (prompt lookup, Saxena 2023). Draft tokens go through the
model in one pass with the token that they follow, and are accepted as far as the model, choosing as it always does,
chooses them: so they change when tokens come, and never which. A constraint that leaves no choice (the names of a
schema's fields) is a second source, whose draft tokens are nearly always accepted.

The module knows tokens and seconds, and neither models nor states.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..system.choices import MOST_SPECULATIVE_TOKENS

# Lengths of the n-grams at the end of a sequence that are looked up, the longest first.
_NGRAMS = (3, 2)
# Numbers of draft tokens of a sequence that are tried in a pass.
_LENGTHS = (1, 2, 4, 8, MOST_SPECULATIVE_TOKENS)
# Weights of a single draft token and of a single pass against what was learnt before.
_LEARN_ACCEPTANCE, _LEARN_SECONDS = 0.1, 0.3
# Passes after which a time that was not measured again is forgotten, so that it is measured.
_FORGET = 256
# A draft must promise so many times the tokens a second of none.
_GAIN = 1.03


class DraftSource:
    """Source of draft tokens of one sequence, with its acceptance rate."""

    def __init__(self, acceptance_rate: float) -> None:
        """`acceptance_rate`, from 0 to 1, is assumed until it is learnt."""
        self.acceptance_rate = acceptance_rate

    def learn(self, draft: Sequence[int], tokens: Sequence[int]) -> None:
        """Updates the acceptance rate: `tokens` came where `draft` was; nothing after its first wrong token counts."""
        for drafted, token in zip(draft, tokens):
            self.acceptance_rate += _LEARN_ACCEPTANCE * ((drafted == token) - self.acceptance_rate)
            if drafted != token:
                break


class PromptLookup(DraftSource):
    """Draft tokens of one growing sequence by n-gram lookup in itself."""

    def __init__(self, seen: Sequence[int]) -> None:
        """`seen` is the sequence itself, not a copy."""
        super().__init__(acceptance_rate=0.5)
        self._seen = seen
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def propose(self, most: int) -> list[int]:
        """Up to `most` draft tokens."""
        seen = self._seen
        # An n-gram is known once a token follows it.
        for after in range(self._indexed, len(seen)):
            for size in _NGRAMS:
                if size <= after:
                    self._after[tuple(seen[after - size : after])] = after
        self._indexed = len(seen)
        for size in _NGRAMS:
            after = self._after.get(tuple(seen[-size:]), len(seen)) if size <= len(seen) else len(seen)
            if after < len(seen):
                return list(seen[after : after + most])
        return []


class _Time(NamedTuple):
    """Seconds of a pass, and the number of the pass in which they were measured last."""

    seconds: float
    at: int


class Speculation:
    """Choice of the number of draft tokens, from measured times of passes by their size and from acceptance rates."""

    def __init__(self, most: int) -> None:
        """`most` draft tokens of a sequence in a pass; 0 for none."""
        self.most = most
        self._times: dict[int, _Time] = {}
        self._passes = 0

    def draft_length(self, sequences: Sequence[tuple[float, int]]) -> int:
        """Number of draft tokens that each sequence may have in the next pass.

        `sequences` has the acceptance rate of each, and how many draft tokens it has.
        """
        longest = min(self.most, max((count for _, count in sequences), default=0))
        if not longest:
            return 0
        best, found = self._throughput(sequences, 0) * _GAIN, 0
        for length in _LENGTHS:
            if length > longest:
                break
            throughput = self._throughput(sequences, length)
            if throughput > best:
                best, found = throughput, length
        return found

    def record_pass(self, size: int, seconds: float) -> None:
        """Records that a pass of `size` tokens took so many seconds."""
        self._passes += 1
        known = self._times.get(size)
        self._times[size] = _Time(
            seconds if known is None else known.seconds + _LEARN_SECONDS * (seconds - known.seconds), self._passes
        )
        self._times = {size: time for size, time in self._times.items() if self._passes - time.at < _FORGET}

    def _throughput(self, sequences: Sequence[tuple[float, int]], length: int) -> float:
        """Expected tokens a second with `length` draft tokens a sequence."""
        size, tokens = 0, 0.0
        for acceptance_rate, count in sequences:
            taken = min(length, count)
            size += 1 + taken
            tokens += sum(acceptance_rate**n for n in range(taken + 1))
        return tokens / self._seconds(size)

    def _seconds(self, size: int) -> float:
        """Seconds of a pass of `size` tokens; where that was not tried, those of a smaller one, so that it is tried."""
        if size in self._times:
            return self._times[size].seconds
        return max((time.seconds for known, time in self._times.items() if known < size), default=1.0)
