"""The tokenizer's part of a GGUF file's metadata, read back and compared."""

from collections.abc import Sequence
from typing import Any

from ...errors import InputError, quoted
from ...text.tokenizer import Tokenizer

_TEXTS = (
    "The quick brown fox doesn't jump over 12345 lazy dogs, does it?\n\n\tNo: it  can't…",
    "naïve café — 数える 한국어 😀👩‍👩‍👧 x² ½ \u00a0\r\n  def f(x):\n        return x[0] != {'a': 1e-9}",
    " leading, trailing ",
    "",
)


def tokenizer_metadata(tokenizer: Tokenizer | None, size: int, ends: Sequence[int]) -> dict[str, Any]:
    """All keys that describe a tokenizer and its chat templates, for a model with `size` rows of tokens.

    Raises `InputError` if what is read back would give other ids.
    """
    if tokenizer is None:
        return {"tokenizer.ggml.model": "no_vocab"}
    found = tokenizer.gguf_metadata(size, ends)
    again = Tokenizer.from_gguf(found)
    assert again is not None
    for text in _TEXTS:
        if again.encode(text) != tokenizer.encode(text):
            raise InputError(
                f"GGUF files cannot express this tokenizer: the text {quoted(text)} would get other ids; "
                "--no-tokenizer writes the file without one"
            )
    return found
