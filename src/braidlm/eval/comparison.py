"""Comparability of models: only those that read a text as the same tokens can be asked the same things."""

from ..errors import InputError
from ..text.tokenizer import Tokenizer, same_tokenizer


def require_same_tokens(first: Tokenizer | None, second: Tokenizer | None) -> None:
    """`InputError` unless two models have the same tokenizer, or both none."""
    if not same_tokenizer(first, second):
        raise InputError(
            "the models have different tokenizers, but are compared on token ids; compare models that share a tokenizer"
        )
