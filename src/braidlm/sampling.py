"""From logits to a token: pure functions and an explicit generator.

Legend: V = vocabulary.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import InputError

_LAST_SEED = 2**63


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen and when to stop.

    `temperature` 0 takes the most likely token. The others narrow the choice, in this order:
    `repetition_penalty` (divides positive and multiplies negative logits of tokens seen, Keskar et
    al. 2019), `top_k` most likely, smallest set with probability `top_p` (Holtzman et al. 2020),
    at least `min_p` times the most likely one's probability. `stop` are texts that end the output
    and are not part of it. `top_logprobs` is how many of the most likely tokens are told with each.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens": (_whole(self.max_new_tokens, 1), "a whole number from 1"),
            "temperature": (_warmth(self.temperature), "0, or from 0.001 to 1000"),
            "top_p": (_within(self.top_p, 1e-9, 1), "above 0 and at most 1"),
            "top_k": (_whole(self.top_k, 0), "a whole number from 0 (off)"),
            "min_p": (_within(self.min_p, 0, 1), "from 0 to 1"),
            "repetition_penalty": (_within(self.repetition_penalty, 1e-6, 1e6), "from 1e-6 to 1e6"),
            "stop": (all(isinstance(text, str) and text for text in self.stop), "texts that are not empty"),
            "top_logprobs": (_whole(self.top_logprobs, 0, 1000), "a whole number from 0 to 1000"),
            "seed": (self.seed is None or _whole(self.seed, 0, _LAST_SEED), "a whole number from 0 to 2^63, or none"),
        }
        for name, (ok, right) in checks.items():
            if not ok:
                raise InputError(f"{name} is {getattr(self, name)!r}, but must be {right}")

    def with_seed(self, seed: int) -> "Sampling":
        """The same, begun with another seed."""
        return replace(self, seed=seed % _LAST_SEED)


def check_seed(seed: object) -> None:
    """`InputError` unless every generator can begin with `seed`."""
    if not _whole(seed, 0, _LAST_SEED):
        raise InputError(f"seed is {seed!r}, but must be a whole number from 0 to 2^63")


def _warmth(value: object) -> bool:
    return _within(value, 0, 0) or _within(value, 0.001, 1000)


def _whole(value: object, least: int, most: int = 2**31) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _within(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


# Most likely tokens among which a nucleus is sought first.
_FEW = 256


class Choice(NamedTuple):
    """A token, and log probabilities under the model's own distribution (before any narrowing)."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def choose(
    logits_V: Tensor,
    sampling: Sampling,
    seen: Iterable[int],
    generator: torch.Generator,
    allowed_V: Tensor | None = None,
) -> Choice:
    """The next token; `allowed_V` (bool) leaves the others out before anything else."""
    logits_V = logits_V.float()
    narrowed = _penalised(logits_V, sampling.repetition_penalty, seen)
    if allowed_V is not None:
        narrowed = narrowed.masked_fill(~allowed_V, -math.inf)
    if sampling.temperature == 0:
        token = int(narrowed.argmax())
    else:
        kept, ids = _narrowed(narrowed / sampling.temperature, sampling)
        drawn = _drawn(kept.softmax(-1).cpu(), generator)
        token = drawn if ids is None else int(ids[drawn])
    whole = float(logits_V.logsumexp(-1))
    top: tuple[tuple[int, float], ...] = ()
    if sampling.top_logprobs:
        values, places = logits_V.topk(min(sampling.top_logprobs, len(logits_V)))
        top = tuple((place, value - whole) for place, value in zip(places.tolist(), values.tolist()))
    return Choice(token, float(logits_V[token]) - whole, top)


def _drawn(probabilities: Tensor, generator: torch.Generator) -> int:
    """Where a random number falls among the sums: one of them a token, where `multinomial` takes one a word."""
    sums = probabilities.cumsum(-1, dtype=torch.float64)
    at = torch.rand((), dtype=torch.float64, generator=generator) * sums[-1]
    # A sum must lie above the number: words of no probability are never drawn, the last one included.
    return min(int(torch.searchsorted(sums, at, right=True)), int(torch.searchsorted(sums, sums[-1])))


def _penalised(logits_V: Tensor, penalty: float, seen: Iterable[int]) -> Tensor:
    if penalty == 1.0:
        return logits_V
    ids = torch.tensor(sorted(set(seen)), dtype=torch.int64, device=logits_V.device)
    values = logits_V[ids]
    return logits_V.index_copy(0, ids, torch.where(values > 0, values / penalty, values * penalty))


def _narrowed(logits_V: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """The logits of tokens that may be drawn, and those tokens' ids; None: all of them, in order."""
    kept, ids = logits_V, None
    if sampling.top_k and sampling.top_k < len(logits_V):
        least = logits_V.topk(sampling.top_k).values[-1]
        kept, ids = _where(logits_V >= least, kept, ids)
    if sampling.top_p < 1:
        kept, ids = _nucleus(kept, ids, sampling.top_p)
    if sampling.min_p > 0:
        kept, ids = _where(kept >= kept.max() + math.log(sampling.min_p), kept, ids)
    return kept, ids


def _where(chosen: Tensor, kept: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor]:
    places = chosen.nonzero()[:, 0]
    return kept[places], places if ids is None else ids[places]


def _nucleus(kept: Tensor, ids: Tensor | None, top_p: float) -> tuple[Tensor, Tensor]:
    """The fewest tokens, the most likely ones, whose probabilities come to `top_p`."""
    probabilities = kept.softmax(-1)
    # A few tokens are nearly always enough, and much faster to find than the order of all.
    for count in (min(_FEW, len(kept)), len(kept)):
        most, order = probabilities.topk(count)
        before = most.cumsum(-1) - most
        if count == len(kept) or before[-1] >= top_p:
            break
    needed = order[before < top_p]
    return kept[needed], needed if ids is None else ids[needed]
