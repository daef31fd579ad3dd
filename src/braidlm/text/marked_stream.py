"""Decoding of ids one by one with some control tokens shown: those that are marks in an answer."""

from collections.abc import Mapping
from typing import Protocol


class Detokenizer(Protocol):
    """Detokenizer of ids that come one by one, without control tokens."""

    def push(self, token: int) -> str:
        """The text that is certain after `token`."""
        ...

    def flush(self) -> str:
        """Text that was held back, at the end."""
        ...


class MarkedStream:
    """A decoder that shows the control tokens in `marks`, by id, as their texts."""

    def __init__(self, decoder: Detokenizer, marks: Mapping[int, str]) -> None:
        self._decoder = decoder
        self._marks = marks

    def push(self, token: int) -> str:
        """The text that is certain after `token`."""
        if token in self._marks:
            return self._decoder.flush() + self._marks[token]
        return self._decoder.push(token)

    def flush(self) -> str:
        """Text that was held back, at the end."""
        return self._decoder.flush()
