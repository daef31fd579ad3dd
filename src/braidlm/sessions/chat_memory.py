"""Memory of plain chats: their texts with the token ids of their answers, each known to its scope alone."""

import hashlib
import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .transcripts import Known, MessageEnd


class _KnownChat(NamedTuple):
    """The ids of a text, and its length in characters."""

    ids: "array[int]"
    characters: int


class ChatMemory:
    """Memory of rendered chats up to the end of an answer or of a message. May be used from several threads."""

    def __init__(self, most: int = 1 << 23) -> None:
        """`most` is how many ids are remembered, of all scopes; texts longest unused are forgotten first."""
        self._most = most
        self._texts: OrderedDict[bytes, _KnownChat] = OrderedDict()  # by the digest of scope and text
        self._held = 0
        self._lengths: Counter[int] = Counter()  # of the texts, in characters
        self._lock = threading.Lock()

    def known(self, scope: str) -> Known:
        """Lookup of the longest prefix of a text that is remembered in this scope."""

        def known(text: str) -> tuple[int, Sequence[int]]:
            with self._lock:
                return self._longest(scope, text)

        return known

    def add_chat(self, scope: str, text: str, ids: Sequence[int], message_ends: Sequence[MessageEnd]) -> None:
        """Remembers the ids of `text` up to each of `message_ends`, for texts of this scope that begin alike."""
        ends = sorted(message_ends)
        digests = [key for _, key in _digests(scope, text, [end.characters for end in ends])]
        with self._lock:
            for end, key in zip(ends, digests, strict=True):
                self._forget(key)
                self._texts[key] = _KnownChat(array("q", ids[: end.ids]), end.characters)
                self._held += end.ids
                self._lengths[end.characters] += 1
            while self._held > self._most:
                self._forget(next(iter(self._texts)))

    def _forget(self, key: bytes) -> None:
        if (written := self._texts.pop(key, None)) is not None:
            self._held -= len(written.ids)
            self._lengths[written.characters] -= 1
            if not self._lengths[written.characters]:
                del self._lengths[written.characters]

    def _longest(self, scope: str, text: str) -> tuple[int, Sequence[int]]:
        found = None
        for size, key in _digests(scope, text, sorted(size for size in self._lengths if size <= len(text))):
            if key in self._texts:
                found = size, key
        if found is None:
            return 0, ()
        self._texts.move_to_end(found[1])
        return found[0], self._texts[found[1]].ids


def _digests(scope: str, text: str, sizes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Digests of the first `sizes` characters (increasing) in one pass; equal ones only within a scope."""
    hashed, at = hashlib.blake2b(_bytes(scope) + b"\xff"), 0  # no byte of UTF-8: no scope is another's beginning
    for size in sizes:
        hashed.update(_bytes(text[at:size]))
        at = size
        yield size, hashed.copy().digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
