"""From logits to a token: pure functions and an explicit generator.

Legend: V = vocabulary.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen and when to stop.

    `temperature` 0 takes the most likely token. The others narrow the choice, in this order:
    `repetition_penalty` (divides positive and multiplies negative logits of tokens seen, Keskar et
    al. 2019), `top_k` most likely, smallest set with probability `top_p` (Holtzman et al. 2020),
    at least `min_p` times the most likely one's probability. `stop` are texts that end the output
    and are not part of it.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (self.temperature >= 0 and math.isfinite(self.temperature), "zero or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "zero (off) or more"),
            "min_p": (0 <= self.min_p <= 1, "from 0 to 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0"),
            "stop": (all(isinstance(text, str) and text for text in self.stop), "texts that are not empty"),
        }
        for name, (ok, right) in checks.items():
            if not ok:
                raise InputError(f"{name} is {getattr(self, name)!r}, but must be {right}")


def choose(logits_V: Tensor, sampling: Sampling, seen: Iterable[int], generator: torch.Generator) -> tuple[int, float]:
    """A token id and its log probability under the model's own distribution (before any narrowing)."""
    logits_V = logits_V.float()
    narrowed = _penalised(logits_V, sampling.repetition_penalty, seen)
    if sampling.temperature == 0:
        token = int(narrowed.argmax())
    else:
        probabilities = _narrowed((narrowed / sampling.temperature), sampling).softmax(-1)
        token = int(torch.multinomial(probabilities.cpu(), 1, generator=generator))
    return token, float(logits_V[token] - logits_V.logsumexp(-1))


def _penalised(logits_V: Tensor, penalty: float, seen: Iterable[int]) -> Tensor:
    if penalty == 1.0:
        return logits_V
    ids = torch.tensor(sorted(set(seen)), dtype=torch.int64, device=logits_V.device)
    values = logits_V[ids]
    return logits_V.index_copy(0, ids, torch.where(values > 0, values / penalty, values * penalty))


def _narrowed(logits_V: Tensor, sampling: Sampling) -> Tensor:
    if sampling.top_k and sampling.top_k < len(logits_V):
        least = logits_V.topk(sampling.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < least, -math.inf)
    if sampling.top_p < 1:
        ordered, order = logits_V.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1).roll(1)
        before[0] = 0  # the most likely token always stays
        logits_V = logits_V.index_fill(0, order[before >= sampling.top_p], -math.inf)
    if sampling.min_p > 0:
        logits_V = logits_V.masked_fill(logits_V < logits_V.max() + math.log(sampling.min_p), -math.inf)
    return logits_V
