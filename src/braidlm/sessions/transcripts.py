"""Chats as token ids, such that what was written once keeps the ids that it was written with.

A text can be spelled in several ways in tokens, and a model rarely writes the one that reading its text again would
give. So texts are remembered with their ids: rendered chats up to the end of an answer or of a message. The next
request's text begins with one of them, and only the rest of it is turned into ids.
"""

import hashlib
import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..errors import InputError
from ..text.reasoning import for_template
from ..tokenizer import Tokenizer

Message = Mapping[str, Any]


class Place(NamedTuple):
    """The end of a message: after so many characters of a text, and so many of its ids."""

    characters: int
    ids: int


class Prompt(NamedTuple):
    """Messages, ready for an answer: their text, its ids, and where those messages end that were not known."""

    text: str
    ids: tuple[int, ...]
    places: tuple[Place, ...]

    @property
    def breaks(self) -> tuple[int, ...]:
        """Numbers of ids after which messages end."""
        return tuple(place.ids for place in self.places)


class Transcripts:
    """The chats of one tokenizer. May be used from several threads."""

    def __init__(self, tokenizer: Tokenizer, most: int = 1 << 23) -> None:
        """`most` is how many ids are remembered; texts longest unused are forgotten first."""
        self._tokenizer = tokenizer
        self._most = most
        self._ids: OrderedDict[bytes, array[int]] = OrderedDict()  # by the text's digest
        self._held = 0
        self._lengths: Counter[int] = Counter()  # of the texts, in characters
        self._length_of: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def __contains__(self, text: str) -> bool:
        """Whether the ids of exactly this text are remembered."""
        with self._lock:
            return _digest(text) in self._ids

    def prompt(self, messages: Sequence[Message], **variables: Any) -> Prompt:
        """The prompt for an answer to `messages`; `variables` are for the model's template."""
        messages = self._told(messages, variables)
        text = self._tokenizer.render_marked(messages, **variables)
        with self._lock:
            size, known = self._longest(text)
        ends = self._ends_of_messages(messages, text, size, variables)
        pieces = [self._encode(text[a:b]) for a, b in pairwise([size, *ends, len(text)])]
        rest, joined = self._encode(text[size:]), []
        places = []
        for end, piece in zip(ends, pieces, strict=False):
            joined += piece
            if joined != rest[: len(joined)]:  # a token spans the end of this message
                break
            places.append(Place(end, len(known) + len(joined)))
        prompt = Prompt(text, (*known, *rest), tuple(places))
        self.remember_places(prompt.text, prompt.ids, prompt.places)
        return prompt

    def generation_prompt(self, messages: Sequence[Message], text: str, variables: Mapping[str, Any]) -> str:
        """What a prompt's `text` holds after the last of its `messages`; its last line if that cannot be told."""
        try:
            told = self._told(messages, variables)
            begun = self._tokenizer.render_marked(told, add_generation_prompt=False, **variables)
        except InputError:
            begun = ""
        if begun and text.startswith(begun) and len(begun) < len(text):
            return text[len(begun) :]
        return text.rstrip().rpartition("\n")[2]

    def template(self, variables: Mapping[str, Any]) -> str:
        """The template that is rendered with `variables`: with tools it may be another one."""
        tokenizer = self._tokenizer
        return (tokenizer.tool_template if variables.get("tools") else tokenizer.chat_template) or ""

    def _told(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Messages as the model's template wants them."""
        template = self.template(variables)
        return [for_template(message, template) for message in messages]

    def remember_places(self, text: str, ids: Sequence[int], places: Sequence[Place]) -> None:
        """`remember` for several beginnings of one text."""
        for place in places:
            self.remember(text[: place.characters], ids[: place.ids])

    def text_of(self, ids: Sequence[int]) -> str:
        """What an answer adds to the text: control tokens too."""
        return self._tokenizer.decode(ids, skip_special=False)

    def remember(self, text: str, ids: Sequence[int]) -> None:
        """From now on, texts that begin with `text` begin with `ids`."""
        key = _digest(text)
        with self._lock:
            self._forget(key)
            self._ids[key] = array("q", ids)
            self._held += len(ids)
            self._length_of[key] = len(text)
            self._lengths[len(text)] += 1
            while self._held > self._most:
                self._forget(next(iter(self._ids)))

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode_marked(text) if text else []

    def _forget(self, key: bytes) -> None:
        if (ids := self._ids.pop(key, None)) is not None:
            self._held -= len(ids)
            size = self._length_of.pop(key)
            self._lengths[size] -= 1
            if not self._lengths[size]:
                del self._lengths[size]

    def _longest(self, text: str) -> tuple[int, Sequence[int]]:
        """Length and ids of the longest beginning of `text` that is remembered."""
        found = None
        for size, key in _digests(text, sorted(size for size in self._lengths if size <= len(text))):
            if key in self._ids:
                found = size, key
        if found is None:
            return 0, ()
        self._ids.move_to_end(found[1])
        return found[0], self._ids[found[1]]

    def _ends_of_messages(
        self, messages: Sequence[Message], text: str, known: int, variables: Mapping[str, Any]
    ) -> list[int]:
        """Where in `text`, after its first `known` characters, messages end."""
        places: list[int] = []
        for count in range(len(messages), 0, -1):
            try:
                begun = self._tokenizer.render_marked(messages[:count], add_generation_prompt=False, **variables)
            except InputError:  # a template may want the last message to be a user's
                continue
            if len(begun) <= known:
                break
            if text.startswith(begun) and len(begun) < len(text):
                places.append(len(begun))
        return sorted(set(places))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(_bytes(text)).digest()


def _digests(text: str, sizes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Digests of the first `sizes` characters (increasing), in one pass."""
    hashed, at = hashlib.blake2b(), 0
    for size in sizes:
        hashed.update(_bytes(text[at:size]))
        at = size
        yield size, hashed.copy().digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
