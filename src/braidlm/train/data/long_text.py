"""Tokenization of long texts in pieces: the library needs a hundred times the memory of the text that it reads at once.

A text is cut at line ends where the cut shows in no token: the text around it gives the same tokens in one piece and
in two. A vocabulary for which no such place is found reads the text whole.
"""

from ...text.tokenizer import Tokenizer

PIECE = 2**20  # characters
_AROUND = 256  # characters on either side of a cut: more than any token, and whole words beside it
_TRIES = 32


def encode_long(tokenizer: Tokenizer, text: str, piece: int = PIECE) -> list[int]:
    """Token ids of a text with the begin and end tokens that the model wants; control tokens in it are plain text."""
    if len(text) <= piece:
        return tokenizer.encode(text, special=False)
    ids: list[int] = []
    begin = 0
    while len(text) - begin > piece and (cut := _cut(tokenizer, text, begin + piece)):
        ids += tokenizer.encode(text[begin:cut], special=False, add_bos=False)
        begin = cut
    before, after = _around(tokenizer)
    return before + ids + tokenizer.encode(text[begin:], special=False, add_bos=False) + after


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Token ids that the model wants before and after every text."""
    bare, whole = tokenizer.encode("a", add_bos=False), tokenizer.encode("a")
    begin = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:begin], whole[begin + len(bare) :]


def _cut(tokenizer: Tokenizer, text: str, place: int) -> int:
    """Position after `place` at which the text can be cut, or 0."""
    for _ in range(_TRIES):
        place = text.find("\n", place) + 1
        if not place:
            return 0
        before, after = text[max(0, place - _AROUND) : place], text[place : place + _AROUND]
        left, right, both = (
            tokenizer.encode(part, special=False, add_bos=False) for part in (before, after, before + after)
        )
        if left + right == both:
            return place
    return 0
