"""The choice of one token from logits, and the log probabilities of tokens that are given: pure functions.

One token's logits are few numbers: numpy goes through them on one thread. torch would share such work out among all
threads, and each of its operations waits for the slowest of them: milliseconds on a busy machine, where this takes
tens of microseconds.

Legend: V = vocabulary, K = tokens that may still be drawn, n = tokens.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .penalties import Penalties
from .sampling import Sampling

# Most likely tokens among which a nucleus is sought first.
_FEW = 256


class Choice(NamedTuple):
    """A token, and log probabilities under the model's own distribution (before penalties, biases and narrowing)."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def as_numbers(logits: Tensor) -> NDArray[np.float32]:
    """Logits in float32 as numpy has them, over the same memory where that is possible."""
    numbers: NDArray[np.float32] = logits.detach().float().cpu().numpy()
    return numbers


def choose(
    logits_V: NDArray[np.float32],
    sampling: Sampling,
    penalties: Penalties,
    generator: torch.Generator,
    allowed_V: NDArray[np.bool_] | None = None,
) -> Choice:
    """The next token; `allowed_V` leaves the others out, whatever penalties and biases say."""
    kept, ids = penalties.applied(logits_V), None
    if allowed_V is not None:
        ids = np.flatnonzero(allowed_V)
        kept = kept[ids]
    if sampling.temperature == 0:
        place = int(kept.argmax())
    else:
        kept, ids = _narrowed(kept / np.float32(sampling.temperature), ids, sampling)
        place = _drawn(kept, generator)
    return _scored(logits_V, place if ids is None else int(ids[place]), sampling.top_logprobs)


def scores(logits_nV: NDArray[np.float32], tokens: Sequence[int], top: int) -> list[Choice]:
    """The log probabilities of `tokens`, each by the logits before it, and of the `top` most likely ones beside it."""
    return [_scored(logits_V, token, top) for logits_V, token in zip(logits_nV, tokens, strict=True)]


def _scored(logits_V: NDArray[np.float32], token: int, count: int) -> Choice:
    most = logits_V.max()
    whole = float(most) + math.log(float(np.exp(logits_V - most).sum()))
    top: tuple[tuple[int, float], ...] = ()
    if count:
        ids = _most_likely(logits_V, count)
        top = tuple((i, float(value) - whole) for i, value in zip(ids.tolist(), logits_V[ids]))
    return Choice(token, float(logits_V[token]) - whole, top)


def _most_likely(values_K: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Places of the largest values, the largest first; of equal ones the first."""
    least = len(values_K) - count
    found = np.arange(len(values_K)) if least <= 0 else np.sort(np.argpartition(values_K, least)[least:])
    return found[np.argsort(-values_K[found], kind="stable")]


def _softmax(values_K: NDArray[np.float32]) -> NDArray[np.float32]:
    weights = np.exp(values_K - values_K.max())
    return weights / weights.sum()


def _drawn(values_K: NDArray[np.float32], generator: torch.Generator) -> int:
    """Index drawn by a random number among the sums of the probabilities."""
    sums = _softmax(values_K).cumsum(dtype=np.float64)
    at = float(torch.rand((), dtype=torch.float64, generator=generator)) * sums[-1]
    # A sum must lie above the number: words of no probability are never drawn, the last one included.
    return min(int(sums.searchsorted(at, side="right")), int(sums.searchsorted(sums[-1])))


def _narrowed(
    kept: NDArray[np.float32], ids: NDArray[np.intp] | None, sampling: Sampling
) -> tuple[NDArray[np.float32], NDArray[np.intp] | None]:
    """The logits of tokens that may be drawn, and those tokens' ids; None: all of them, in order."""
    if 0 < sampling.top_k < len(kept):
        least = np.partition(kept, len(kept) - sampling.top_k)[len(kept) - sampling.top_k]
        kept, ids = _taken(np.flatnonzero(kept >= least), kept, ids)
    if sampling.top_p < 1:
        kept, ids = _taken(_nucleus(_softmax(kept), sampling.top_p), kept, ids)
    if sampling.min_p > 0:
        kept, ids = _taken(np.flatnonzero(kept >= kept.max() + np.float32(math.log(sampling.min_p))), kept, ids)
    return kept, ids


def _taken(
    places: NDArray[np.intp], kept: NDArray[np.float32], ids: NDArray[np.intp] | None
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    return kept[places], places if ids is None else ids[places]


def _nucleus(probabilities_K: NDArray[np.float32], top_p: float) -> NDArray[np.intp]:
    """The fewest tokens, the most likely ones, whose probabilities come to `top_p`."""
    # A few tokens are nearly always enough, and much faster to find than the order of all.
    for count in (min(_FEW, len(probabilities_K)), len(probabilities_K)):
        order = _most_likely(probabilities_K, count)
        most = probabilities_K[order]
        before = most.cumsum() - most
        if count == len(probabilities_K) or before[-1] >= top_p:
            break
    return order[before < top_p]
