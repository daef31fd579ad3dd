"""Sequences of token ids cut into windows, batches and passes, so that no pass is long and none is small."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError

WINDOW = 1024
# Tokens of one pass: enough for matrix products to be as fast as they get.
PASS = 512


class Pass(NamedTuple):
    """Tokens that one pass reads.

    rows: new tokens of each sequence. targets_T: the token that follows each of them. positions_T: where in its
    sequence each of them stands.
    """

    rows: list[Tensor]
    targets_T: Tensor
    positions_T: Tensor


def windows(ids: Sequence[int], limit: int | None, length: int) -> list[Tensor]:
    """Cuts the first `limit` ids of a text into sequences of `length`.

    A rest shorter than that is left out, unless it is all.
    """
    kept = torch.tensor(list(ids[:limit]), dtype=torch.int64)
    if len(kept) < 2:
        raise InputError(f"the text has {len(kept)} tokens, but at least 2 are needed")
    return [kept] if len(kept) < length else list(kept[: len(kept) // length * length].split(length))


def batches(sequences: Sequence[Tensor], most: int = PASS) -> Iterator[list[Tensor]]:
    """Groups of neighbouring sequences, as many as have `most` tokens together; a longer one is alone."""
    group: list[Tensor] = []
    for sequence in sequences:
        if group and sum(map(len, group)) + len(sequence) > most:
            yield group
            group = []
        group.append(sequence)
    if group:
        yield group


def passes(batch: Sequence[Tensor], most: int = PASS) -> Iterator[Pass]:
    """The passes over one of `batches`: a single one, or for a long sequence one for each `most` of its tokens."""
    for begin in range(0, max(map(len, batch)) - 1, most):
        ends = [min(begin + most, len(sequence) - 1) for sequence in batch]
        yield Pass(
            [sequence[begin:end] for sequence, end in zip(batch, ends, strict=True)],
            torch.cat([sequence[begin + 1 : end + 1] for sequence, end in zip(batch, ends, strict=True)]),
            torch.cat([torch.arange(begin, end) for end in ends]),
        )
