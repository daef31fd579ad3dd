"""Reader of answers as they arrive: reasoning, content, and tool calls."""

from typing import NamedTuple

from .reasoning import ReasoningSplitter, Split
from .tool_calls import Call, Found, ToolCallReader


class Part(NamedTuple):
    """Part of an answer that has become certain."""

    reasoning: str = ""
    content: str = ""
    calls: tuple[Call, ...] = ()


class AnswerReader:
    """Reader of one answer; what it gives adds up to the same however the text is cut."""

    def __init__(self, splitter: ReasoningSplitter, tools: ToolCallReader | None = None) -> None:
        """Without `tools`, calls are content."""
        self._splitter = splitter
        self._tools = tools

    def push(self, text: str) -> Part:
        """Adds `text`; gives what has become certain."""
        split = self._splitter.push(text)
        return self._part(split, self._found(split))

    def finish(self) -> Part:
        """Ends the answer; gives what is left."""
        split = self._splitter.finish()
        found = self._found(split)
        last = Found() if self._tools is None else self._tools.finish()
        return self._part(split, Found(found.content + last.content, found.calls + last.calls))

    @property
    def truncated(self) -> bool:
        """Whether the answer ended within a call."""
        return self._tools is not None and self._tools.truncated

    def _found(self, split: Split) -> Found:
        return Found(split.content) if self._tools is None else self._tools.push(split.content)

    def _part(self, split: Split, found: Found) -> Part:
        return Part(split.reasoning, found.content, found.calls)


def read_answer(reader: AnswerReader, texts: list[str]) -> Part:
    """A whole answer from its pieces."""
    parts = [*map(reader.push, texts), reader.finish()]
    return Part(
        "".join(part.reasoning for part in parts),
        "".join(part.content for part in parts),
        tuple(call for part in parts for call in part.calls),
    )
