"""Divergence of a model from another on the same tokens: of a quantized or grafted model from its original.

Perplexity alone can hide a loss, since a changed model may guess a text better by chance; the divergence of the
next-token distributions cannot.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..api.language_model import LanguageModel
from ..errors import InputError
from ..model.model import Model
from ..system.progress import ProgressFunction
from .comparison import require_same_tokens
from .positions import BORDERS, buckets, sums_by_position, surprise
from .reader import Reader


class Divergence(NamedTuple):
    """Divergence at positions `first` to `last` of every sequence, `tokens` in all.

    perplexity and reference_perplexity: of the next token, by the model and by the reference.
    divergence: mean Kullback-Leibler divergence KL(reference || model) a token, in nats.
    agreement: share of tokens for which both find the same token most likely.
    """

    first: int
    last: int
    tokens: int
    perplexity: float
    reference_perplexity: float
    divergence: float
    agreement: float


class DivergenceReport(NamedTuple):
    """Divergence at all positions together, and by position."""

    whole: Divergence
    buckets: tuple[Divergence, ...]


def divergence(
    model: Model | LanguageModel,
    reference: Model | LanguageModel | Reader,
    sequences: Sequence[Tensor],
    progress: ProgressFunction | None = None,
    *,
    kv_dtype: str | None = None,
    borders: Sequence[int] = BORDERS,
) -> DivergenceReport:
    """Divergence of a model from a reference over sequences of token ids, [T] each, which both read pass by pass.

    A reference that several models are compared with is best given as a `RecordedReader`, which runs it once.
    `kv_dtype` is how `model` stores keys and values; the reference stores them as its activations are. `borders` are
    the positions at which a bucket ends; `progress(done, total)` is called for each sequence. `InputError` unless both
    have one vocabulary, and of two `LanguageModel`s the same tokenizer.
    """
    readers = [Reader(model, kv_dtype), reference if isinstance(reference, Reader) else Reader(reference)]
    vocabularies = [reader.vocab for reader in readers]
    if len(set(vocabularies)) > 1:
        raise InputError(
            f"the models have {vocabularies[0]} and {vocabularies[1]} token ids, but only models of one vocabulary can "
            "be compared"
        )
    if isinstance(model, LanguageModel) and isinstance(reference, LanguageModel):
        require_same_tokens(model.tokenizer, reference.tokenizer)
    sums = sums_by_position(readers, sequences, _measure, progress)
    found = tuple(_divergence(sums, *bucket) for bucket in buckets(sums.shape[1], borders))
    return DivergenceReport(_divergence(sums, 0, sums.shape[1]), found)


def _measure(logs: Sequence[Tensor], targets_T: Tensor) -> Tensor:
    model, reference = logs
    divergence = (reference.exp() * (reference - model)).sum(-1)
    same = (model.argmax(-1) == reference.argmax(-1)).double()
    nats = [surprise(of_one, targets_T) for of_one in (model, reference)]
    return torch.stack([torch.ones_like(same), *nats, divergence.double(), same])


def _divergence(sums: Tensor, begin: int, end: int) -> Divergence:
    tokens, model, reference, divergence, same = sums[:, begin:end].sum(-1).tolist()
    return Divergence(
        begin,
        end - 1,
        int(tokens),
        math.exp(min(model / tokens, 700.0)),
        math.exp(min(reference / tokens, 700.0)),
        divergence / tokens,
        same / tokens,
    )
