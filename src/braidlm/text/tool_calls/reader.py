"""Calls taken out of an answer as it arrives: what cannot belong to a call is shown at once.

The same text gives the same content and the same calls however it is cut. White space before the first call, where
there is nothing else, and after calls is no content.
"""

from collections.abc import Iterable, Sequence

from ..marks import partial
from .call import Call, Found, Function
from .cursor import Parser, Reading
from .format import Format

# Characters that are read at once: what is read again after a mistake is not much more.
_PIECE = 512


class ToolCallReader:
    """Reader of one answer."""

    def __init__(self, formats: Sequence[Format], functions: Sequence[Function], parallel: bool = True) -> None:
        """`parallel` False takes the first call only, and drops the others."""
        self._functions = functions
        self._readers = {
            marker: dict.fromkeys(
                reader for tool_format in formats if marker in tool_format.markers for reader in tool_format.readers
            )
            for tool_format in formats
            for marker in tool_format.markers
        }
        self._bare = dict.fromkeys(reader for tool_format in formats for reader in tool_format.bare_readers)
        self._left = None if parallel else 1
        self._held = ""  # may begin a marker
        self._space = ""  # at the beginning: content only if text follows
        self._called = False
        self._between = True  # nothing but white space since the beginning or the last call
        self._going: list[Reading] = []  # those that may find a call where the answer is now
        self.truncated = False  # whether the answer ended within a call

    def push(self, text: str) -> Found:
        """Adds `text`; gives what has become certain."""
        content: list[str] = []
        calls: list[Call] = []
        for begin in range(0, len(text), _PIECE):
            piece = text[begin : begin + _PIECE]
            while piece:
                found, piece = self._read_call(piece) if self._going else self._read_text(piece)
                content.append(found.content)
                calls += found.calls
        return Found("".join(content), tuple(calls))

    def finish(self) -> Found:
        """Ends the answer; gives what is left: a call that is not complete is content."""
        calls: tuple[Call, ...] = ()
        rest = self._held
        if self._going:
            for reading in self._going:
                reading.finish()
            chosen = next((reading for reading in self._going if reading.calls or reading.gave), self._going[0])
            calls = self._taken(chosen)
            rest = chosen.pending().lstrip() if chosen.gave else chosen.pending()
        self.truncated = bool(rest)
        shown = self._show(rest) if rest else self._space
        self._held, self._space, self._going = "", "", []
        return Found(shown, calls)

    def _read_text(self, text: str) -> tuple[Found, str]:
        """Reads on outside of calls; what was found, and what is left to be read."""
        text, self._held = self._held + text, ""
        if self._between:
            body = text.lstrip()
            if not self._called:
                self._space += text[: len(text) - len(body)]
            text = body
        if self._between and not self._called and text[:1] in ("{", "[") and self._bare:
            self._begin({**self._bare, **self._after(text[0])})
            return Found(), text
        places = [(place, marker) for marker in self._readers if (place := text.find(marker)) >= 0]
        if not places:
            cut = len(text) - partial(text, self._readers)
            self._held = text[cut:]
            return Found(self._show(text[:cut])), ""
        place, marker = min(places)
        shown = self._show(text[:place])
        self._begin(self._readers[marker])
        return Found(shown), text[place:]

    def _after(self, char: str) -> dict[Parser, None]:
        """Readers of the markers that begin with a character."""
        found = [readers for marker, readers in self._readers.items() if marker.startswith(char)]
        return {reader: None for readers in found for reader in readers}

    def _begin(self, readers: Iterable[Parser]) -> None:
        self._going = [Reading(reader, self._functions) for reader in readers]

    def _read_call(self, text: str) -> tuple[Found, str]:
        """Reads on where a call may be; what was found, and what is left to be read."""
        for reading in self._going:
            reading.push(text)
        chosen = next((reading for reading in self._going if reading.calls or reading.gave), None)
        if chosen is not None:
            calls = self._taken(chosen)
            self._going = [] if chosen.ended else [chosen]
            return Found(calls=calls), chosen.pending() if chosen.ended else ""
        alive = [reading for reading in self._going if not reading.ended]
        if alive:
            self._going = alive
            return Found(), ""
        # No call begins here: the first character is text, and what follows is read again.
        rest, self._going = self._going[0].pending(), []
        return Found(self._show(rest[0])), rest[1:]

    def _taken(self, reading: Reading) -> tuple[Call, ...]:
        """The new calls of a reading, as many as are wanted."""
        calls = reading.new_calls()
        if reading.gave:
            self._called = self._between = True
            self._space = ""
        wanted = calls[: self._left]
        if self._left is not None:
            self._left -= len(wanted)
        return wanted

    def _show(self, text: str) -> str:
        """Text as content, with the space before it; nothing is shown of no text."""
        if not text:
            return ""
        shown, self._space, self._between = self._space + text, "", False
        return shown
