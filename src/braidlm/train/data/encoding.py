"""Encoding of documents: their tokens, and which of these are trained on.

Legend: T = tokens of a document.
"""

from typing import Any, NamedTuple

import numpy as np

from ...errors import InputError
from ...text.tokenizer import Tokenizer
from .chat import encode_chat
from .long_text import encode_long
from .recipe import Recipe, Record


class Encoded(NamedTuple):
    """Tokens of a document. ids_T: uint32. trained_T: bool, which tokens are targets; None if all are."""

    ids_T: np.ndarray
    trained_T: np.ndarray | None


def end_of_text(tokenizer: Tokenizer, end: str | None) -> int | None:
    """Id of the token that ends a document: of `end`, else the tokenizer's first end token, if it has one."""
    if end is None:
        return next(iter(tokenizer.eos_ids), None)
    found = tokenizer.id_of(end)
    if found is None or found not in tokenizer.special_ids:
        raise InputError(f"the tokenizer has no control token {end!r} to end documents with")
    return found


class Encoder:
    """Encoder of documents for one recipe. `InputError` if the tokenizer cannot do what the recipe asks for."""

    def __init__(self, tokenizer: Tokenizer, recipe: Recipe) -> None:
        self._tokenizer, self._kind = tokenizer, recipe.kind
        self._end = end_of_text(tokenizer, recipe.eos_token)
        if recipe.kind == "chat" and tokenizer.chat_template is None:
            raise InputError("this tokenizer has no chat template, so that conversations cannot be rendered")
        if recipe.kind != "chat" and self._end is None:
            raise InputError("this tokenizer does not say which token ends a text; name a control token as the end")

    def encode(self, record: Record) -> Encoded:
        """Tokens of a document; `InputError` if it cannot be trained on."""
        if isinstance(record.value, str) and self._kind != "chat":
            return Encoded(np.array(self._text(record.value), np.uint32), None)
        if isinstance(record.value, list) and self._kind in ("chat", "dataset"):
            ids, trained = encode_chat(self._tokenizer, record.value, record.tools, self._end)
            return Encoded(np.array(ids, np.uint32), np.array(trained, bool))
        wanted = {"chat": "a list of messages", "dataset": "a text or a list of messages"}.get(self._kind, "a text")
        raise InputError(f"holds {_kind_of(record.value)} where {wanted} must be")

    def _text(self, text: str) -> list[int]:
        if not text.strip():
            raise InputError("is empty")
        ids = encode_long(self._tokenizer, text)
        if ids[-1] != self._end:
            assert self._end is not None
            ids.append(self._end)
        return ids


def _kind_of(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
