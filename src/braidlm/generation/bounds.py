"""Bounds of a prompt: ids that a model has, and as many tokens as it declares."""

from collections.abc import Sequence

from ..errors import ContextLengthError, InputError


def check_ids(ids: Sequence[int], vocab: int) -> None:
    """`InputError` unless all of `ids` are ids of a model with so many."""
    wrong = next((token for token in ids if not 0 <= token < vocab), None)
    if wrong is not None:
        raise InputError(f"token id {wrong} is out of range: this model has the ids 0 to {vocab - 1}")


def check_length(length: int, limit: int | None) -> None:
    """Refuses more tokens than the model declares: its positions beyond were never trained."""
    if limit is not None and length > limit:
        raise ContextLengthError(f"{length} tokens are more than the {limit} that this model declares it can take")
