"""Quantization report: perplexity and divergence of a model from its original on text, by position.

Made for quantized models beside their originals. Perplexity alone can hide a loss, since a changed
model may guess a text better by chance; the divergence of the next-token distributions cannot.

Legend: T = tokens of a window, V = vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..api.language_model import LanguageModel
from ..errors import InputError
from ..state.batch import BatchState

# Positions at which one bucket ends and the next begins: recurrences lose differently near and far.
BORDERS = (32, 128, 512, 2048, 8192, 32768)
WINDOW = 1024
# Logits of this many tokens are in memory at a time.
_CHUNK = 128


class Bucket(NamedTuple):
    """Report of positions `first` to `last` of every window, `tokens` in all.

    perplexity and reference_perplexity: of the next token, by the model and by the reference.
    divergence: mean Kullback-Leibler divergence from the reference's distribution, in nats.
    agreement: share of tokens for which both find the same token most likely.
    """

    first: int
    last: int
    tokens: int
    perplexity: float
    reference_perplexity: float
    divergence: float
    agreement: float


class QuantizationReport(NamedTuple):
    """Quantization report: all positions together, and by position."""

    whole: Bucket
    buckets: tuple[Bucket, ...]


def windows(ids: Sequence[int], limit: int | None, length: int) -> list[Tensor]:
    """Cuts the first `limit` ids of a text into sequences of `length`.

    A rest shorter than that is left out, unless it is all.
    """
    kept = torch.tensor(list(ids[:limit]), dtype=torch.int64)
    if len(kept) < 2:
        raise InputError(f"the text has {len(kept)} tokens, but at least 2 are needed")
    return [kept] if len(kept) < length else list(kept[: len(kept) // length * length].split(length))


def compare(
    model: LanguageModel,
    reference: LanguageModel,
    sequences: Sequence[Tensor],
    progress: Callable[[int, int], None] | None = None,
    *,
    kv_dtype: str | None = None,
) -> QuantizationReport:
    """Compares two models over windows of token ids, [T] each; `progress(done, total)` is called for each window.

    `kv_dtype` is how `model` stores keys and values; the reference stores them as its activations are.
    """
    length = max(len(sequence) for sequence in sequences)
    # For each position: tokens, both negative log likelihoods, divergence, agreement.
    sums = torch.zeros(5, length - 1, dtype=torch.float64)
    for done, sequence in enumerate(sequences, 1):
        states = model.new_state(kv_dtype=kv_dtype), reference.new_state()
        for begin in range(0, len(sequence) - 1, _CHUNK):
            part = sequence[begin : begin + _CHUNK + 1]
            found = _measured(model, reference, states, part)
            sums[:, begin : begin + len(part) - 1] += found
        if progress is not None:
            progress(done, len(sequences))
    ends = [0, *(border for border in BORDERS if border < length - 1), length - 1]
    buckets = tuple(_bucket(sums, a, b) for a, b in pairwise(ends))
    return QuantizationReport(_bucket(sums, 0, length - 1), buckets)


def _measured(
    model: LanguageModel, reference: LanguageModel, states: tuple[BatchState, BatchState], part_T: Tensor
) -> Tensor:
    """The five sums for tokens 1 to T - 1, given those before each: [5, T - 1]."""
    quantized, original = (
        one.forward(part_T[None, :-1], state=state)[0].cpu().log_softmax(-1)
        for one, state in zip((model, reference), states, strict=True)
    )
    target = part_T[1:, None]
    divergence = (original.exp() * (original - quantized)).sum(-1)
    same = (quantized.argmax(-1) == original.argmax(-1)).double()
    likelihoods = [-logs.gather(-1, target)[:, 0].double() for logs in (quantized, original)]
    return torch.stack([torch.ones_like(same), *likelihoods, divergence.double(), same])


def _bucket(sums: Tensor, begin: int, end: int) -> Bucket:
    tokens, quantized, original, divergence, same = sums[:, begin:end].sum(-1).tolist()
    return Bucket(
        begin,
        end - 1,
        int(tokens),
        math.exp(quantized / tokens),
        math.exp(original / tokens),
        divergence / tokens,
        same / tokens,
    )
