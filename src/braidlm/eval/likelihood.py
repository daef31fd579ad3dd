"""Likelihood of text under a model: nats a token, perplexity and bits a byte, by position."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..api.language_model import LanguageModel
from ..errors import InputError
from ..model.model import Model
from ..system.progress import ProgressFunction
from ..text.tokenizer import Tokenizer
from .positions import BORDERS, buckets, sums_by_position, surprise
from .reader import Reader


class Likelihood(NamedTuple):
    """Likelihood of positions `first` to `last` of every sequence, `tokens` in all.

    nats: mean negative log likelihood of a token. perplexity: its exponential.
    """

    first: int
    last: int
    tokens: int
    nats: float
    perplexity: float


class LikelihoodReport(NamedTuple):
    """Likelihood of all positions together, and by position."""

    whole: Likelihood
    buckets: tuple[Likelihood, ...]

    def bits_per_byte(self, text_bytes: int) -> float:
        """Bits that the model spends on each byte of a text of so many; comparable across tokenizers."""
        if text_bytes < 1:
            raise InputError("bits a byte need a text of at least one byte")
        return self.whole.nats * self.whole.tokens / math.log(2) / text_bytes


def likelihood(
    model: Model | LanguageModel,
    sequences: Sequence[Tensor],
    progress: ProgressFunction | None = None,
    *,
    kv_dtype: str | None = None,
    borders: Sequence[int] = BORDERS,
) -> LikelihoodReport:
    """Likelihood of sequences of token ids, [T] each; the first token of each has no prediction and is not counted.

    `borders` are the positions at which a bucket ends; `progress(done, total)` is called for each sequence.
    """
    sums = sums_by_position([Reader(model, kv_dtype)], sequences, _measure, progress)
    found = tuple(_likelihood(sums, *bucket) for bucket in buckets(sums.shape[1], borders))
    return LikelihoodReport(_likelihood(sums, 0, sums.shape[1]), found)


def text_bytes(tokenizer: Tokenizer, sequences: Sequence[Tensor]) -> int:
    """Bytes of the text of every token but the first of each sequence, for `bits_per_byte`.

    The sequences are decoded as one text, since a character may lie on both sides of a border; all of its bytes count
    for the token that completes it.
    """
    stream, found = tokenizer.stream(), 0
    for ids in sequences:
        stream.push(int(ids[0]))
        found += sum(len(stream.push(token).encode()) for token in ids[1:].tolist())
    return found + len(stream.flush().encode())


def _measure(logs: Sequence[Tensor], targets_T: Tensor) -> Tensor:
    nats_T = surprise(logs[0], targets_T)
    return torch.stack([torch.ones_like(nats_T), nats_T])


def _likelihood(sums: Tensor, begin: int, end: int) -> Likelihood:
    tokens, nats = sums[:, begin:end].sum(-1).tolist()
    return Likelihood(begin, end - 1, int(tokens), nats / tokens, math.exp(min(nats / tokens, 700.0)))
