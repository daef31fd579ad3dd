"""Long texts: read by the tokenizers library while other threads run, and refused before they are read whole.

The library holds Python's lock while it reads one text, and lets it go while it reads a list of texts. So a long text
is read as a list of one: it has the same ids, and nobody else has to wait.
"""

from collections.abc import Callable, Sequence

from tokenizers import Encoding, Tokenizer

from ..errors import ContextLengthError

# Characters from which a list is worth it: shorter texts take less than two milliseconds.
_LONG = 1 << 12
_LONG_IDS = 1 << 12
# A token of a vocabulary with short ones alone still stands for more than its own characters where spaces are dropped.
_SHORTEST, _LEAST_BYTES = 16, 1 << 16
# How much of a text is read to see that all of it is too long, in characters a token: most languages take fewer. The
# end of a beginning may be cut into more tokens than the text has there.
_TRIED = 8
_SLACK = 1.1, 1000


def encoded(backend: Tokenizer, text: str, *, around: bool) -> Encoding:
    """Encoding of a text by `backend`; `around` adds what the model wants around every text."""
    if len(text) < _LONG:
        return backend.encode(text, add_special_tokens=around)
    (found,) = backend.encode_batch([text], add_special_tokens=around)
    return found


def decoded(backend: Tokenizer, ids: Sequence[int], *, skip_special: bool) -> str:
    """The text of `ids`."""
    if len(ids) < _LONG_IDS:
        return str(backend.decode(list(ids), skip_special_tokens=skip_special))
    (found,) = backend.decode_batch([list(ids)], skip_special_tokens=skip_special)
    return str(found)


def most_bytes(tokens: int, longest: int) -> int:
    """Number of bytes that so many tokens can stand for, where the vocabulary's longest token has `longest` bytes."""
    return max(_LEAST_BYTES, tokens * max(longest, _SHORTEST))


def require_tokens(text: str, most: int, longest: int, count: Callable[[str], int]) -> None:
    """`ContextLengthError` if a text has certainly more than `most` tokens, before all of it is read.

    `longest` is the number of bytes of the vocabulary's longest token; `count` reads a text and counts its tokens.
    """
    size = len(text.encode("utf-8", "surrogatepass")) if len(text) > _LONG else len(text)
    bound = most_bytes(most, longest)
    if size > bound:
        raise ContextLengthError(
            f"the text has {size} bytes, but the {most} tokens that it may have hold {bound} at most"
        )
    tried = _TRIED * most + _LONG
    if len(text) > tried and (found := count(text[:tried])) > _SLACK[0] * most + _SLACK[1]:
        raise ContextLengthError(
            f"the text has {found} tokens in its first {tried} characters, but may have {most} in all"
        )
