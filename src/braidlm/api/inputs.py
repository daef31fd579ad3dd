"""Inputs of the public surface, as callers give them: batches of ids, prompts, and options of sampling.

Legend: B = sequences, L = tokens of each.
"""

import operator
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..generation.bounds import check_ids
from ..generation.sampling import Sampling
from ..system.suggest import did_you_mean

Ids = Tensor | np.ndarray | Sequence[Tensor] | Sequence[np.ndarray] | Sequence[Sequence[int]]
Messages = Sequence[Mapping[str, Any]]
Prompt = str | Sequence[int] | Tensor | np.ndarray | Messages


def sequences_of(ids: Ids, vocab: int) -> tuple[list[Tensor], bool]:
    """The sequences as 1-D tensors, and whether they came as one [B, L] tensor; `vocab` is the number of ids."""
    dense = isinstance(ids, (Tensor, np.ndarray))
    if isinstance(ids, (Tensor, np.ndarray)) and ids.ndim != 2:
        raise InputError(f"ids have the shape {list(ids.shape)}, but must be [B, L], or a list of 1-D sequences")
    try:
        # A copy of an array, since it may be reversed or read-only, which torch cannot take.
        found = [torch.as_tensor(item.copy() if isinstance(item, np.ndarray) else item) for item in ids]
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"ids are no sequences of whole numbers: {error}") from None
    if not found or not sum(item.numel() for item in found) or (dense and not found[0].numel()):
        raise InputError("ids hold no token; give at least one")
    found = [item.to(torch.int64) if item.numel() == 0 else item for item in found]
    for number, item in enumerate(found):
        if item.dim() != 1 or item.is_floating_point() or item.is_complex() or item.dtype == torch.bool:
            raise InputError(
                f"sequence {number} must be a 1-D tensor of whole numbers, not {item.dtype} {list(item.shape)}"
            )
    found = [item.to(torch.int64) for item in found]
    for ids_L in found:
        wrong = (ids_L < 0) | (ids_L >= vocab)
        if bool(wrong.any()):
            check_ids(ids_L[wrong][:1].tolist(), vocab)
    return found, dense


def snapshot_positions_of(
    state_at: Sequence[Sequence[int]] | None, sequences: list[Tensor]
) -> tuple[tuple[int, ...], ...]:
    """Positions of each sequence at which its state is wanted; none for None."""
    if state_at is None:
        return ()
    try:
        found = tuple(tuple(operator.index(at) for at in positions) for positions in state_at)
    except TypeError:
        raise InputError(
            f"state_at is {shortened_repr(state_at)}, but must hold a list of whole numbers a sequence"
        ) from None
    if len(found) != len(sequences):
        raise InputError(f"state_at is for {len(found)} sequences, but ids have {len(sequences)}")
    for positions, ids_L in zip(found, sequences, strict=True):
        if list(positions) != sorted(set(positions)) or any(not 0 < at <= len(ids_L) for at in positions):
            raise InputError(f"state_at has {list(positions)}, but must hold increasing numbers from 1 to {len(ids_L)}")
    return found


def sampling_of(options: Mapping[str, Any]) -> Sampling:
    """Sampling with these options; `InputError` for one that does not exist or is of a wrong type.

    `stop` may be one text, or None for none.
    """
    stop = options.get("stop") or ()
    stop = (stop,) if isinstance(stop, str) else stop
    try:
        return Sampling(**{**options, "stop": stop})
    except TypeError:
        known = tuple(Sampling.__dataclass_fields__)
        unknown = sorted(set(options) - set(known))
        if not unknown:
            raise InputError("an option has a wrong type") from None
        there = did_you_mean(unknown[0], known) or f"; there are {', '.join(known)}"
        raise InputError(f"unknown option {unknown[0]!r}{there}") from None


def is_single(prompt: Any) -> bool:
    """Whether `prompt` is one prompt and not a list of them."""
    if isinstance(prompt, (Tensor, np.ndarray)):
        return prompt.ndim < 2
    if not isinstance(prompt, (list, tuple)):
        return True
    return len(prompt) == 0 or isinstance(prompt[0], (Integral, Mapping))


def are_ids(prompt: Any) -> bool:
    """Whether `prompt` is a sequence of whole numbers; bytes are not meant as such."""
    sequence = isinstance(prompt, Sequence) and not isinstance(prompt, (str, bytes, bytearray))
    return sequence and all(isinstance(item, Integral) and not isinstance(item, bool) for item in prompt)


def shortened_repr(value: Any) -> str:
    """`repr` of a value, cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
