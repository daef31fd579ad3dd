"""Guard of chats: a stranger's text cannot forge control tokens, whatever template puts the chat together.

A template writes its own control tokens and the messages' texts into one text, in which the two
look alike. So a control token that somebody wrote into a message gets a mark after its first
character before the template sees it; after rendering, those without a mark are the template's
own. They are then called by names that no text can hold, the marks are taken off, and what is left
of control tokens in the text is read as plain text.

Mark and names are made of noncharacters, which Unicode keeps out of texts: in a marked text those
of a message are dropped. Messages without control tokens are not touched at all.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tokenizers import AddedToken, Tokenizer

from ..errors import InputError
from .library import by_parts
from .long_text import encoded

MARK, _QUOTE = "\ufdd0", "\ufdd1"


_KeyPath = tuple[Any, ...]


def marked(messages: Sequence[Mapping[str, Any]], control: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """The messages with a mark in each of the `control` texts that they hold.

    A template may join the parts of a message, so that texts under the same name count as one.
    """
    texts: dict[_KeyPath, list[str]] = {}
    for number, message in enumerate(messages):
        for place, text in _texts(message, (number,)):
            texts.setdefault(place, []).append(text)
    pattern = re.compile(f"(?={_any(control)})")
    if not control or not any(pattern.search("".join(parts)) for parts in texts.values()):
        return messages
    written = {place: iter(_marked_parts(parts, pattern)) for place, parts in texts.items()}
    return [_with_texts(message, (number,), written) for number, message in enumerate(messages)]


def _marked_parts(parts: Sequence[str], pattern: re.Pattern[str]) -> Iterator[str]:
    places = [match.start() + 1 for match in pattern.finditer("".join(parts))]
    begin = 0
    for text in parts:
        cuts = [0, *(place - begin for place in places if begin < place <= begin + len(text)), len(text)]
        yield MARK.join(text[a:b] for a, b in pairwise(cuts))
        begin += len(text)


def _texts(value: Any, place: _KeyPath) -> Iterator[tuple[_KeyPath, str]]:
    """All texts in a message, however deep, in order, each with the names that lead to it."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*place, key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, place)


def _with_texts(value: Any, place: _KeyPath, texts: Mapping[_KeyPath, Iterator[str]]) -> Any:
    """The same with other texts, in the order of `_texts`."""
    if isinstance(value, str):
        return next(texts[place])
    if isinstance(value, Mapping):
        return {key: _with_texts(item, (*place, key), texts) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_texts(item, place, texts) for item in value]
    return value


class MarkedReader:
    """Reader of texts with marks, for one vocabulary; `backend` is copied."""

    def __init__(self, backend: Tokenizer) -> None:
        self._control = {i: token for i, token in backend.get_added_tokens_decoder().items() if token.special}
        self._name_of = {token.content: f"{_QUOTE}{i}{_QUOTE}" for i, token in self._control.items()}
        self._id_of = {self._name_of[token.content]: i for i, token in self._control.items()}
        self._control_names = re.compile(_any(list(self._name_of)))
        self._backend = copy.deepcopy(backend)
        self._backend.encode_special_tokens = True
        # Where the library cuts a text, and what it trims there, is as it is for the tokens themselves.
        self._backend.add_tokens([_renamed(token, self._name_of[token.content]) for token in self._control.values()])

    def encode(self, text: str) -> list[int]:
        """Token ids: control tokens without a mark as such, all else as plain text."""
        text = text.replace(_QUOTE, "")
        if self._control:
            text = self._control_names.sub(lambda match: self._name_of[match[0]], text)
        text = text.replace(MARK, "")
        ids = self._ids(self._backend, text)
        if ids is None:  # a vocabulary that takes whole words first found a control token that is a word
            ids = self._ids(by_parts(self._backend, self._control), text)
        if ids is None:
            raise InputError("a message holds a control token, which this vocabulary cannot read as plain text")
        return ids

    def _ids(self, backend: Tokenizer, text: str) -> list[int] | None:
        """The ids, or None if plain text gave a control token."""
        found = encoded(backend, text, around=False)
        # A token may have taken the spaces around it.
        pairs = [(token.strip(), i) for token, i in zip(found.tokens, found.ids)]
        if any(i in self._control and token not in self._id_of for token, i in pairs):
            return None
        return [self._id_of.get(token, i) for token, i in pairs]


def _renamed(token: AddedToken, name: str) -> AddedToken:
    return AddedToken(name, special=False, normalized=token.normalized, lstrip=token.lstrip, rstrip=token.rstrip)


def _any(texts: Sequence[str]) -> str:
    """A pattern for the longest of `texts`; what is one character long has its mark behind it."""
    longest = sorted(texts, key=len, reverse=True)
    return "|".join(re.escape(text) + (f"(?!{MARK})" if len(text) == 1 else "") for text in longest)
