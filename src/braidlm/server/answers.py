"""Answers to one chat request: whole, as stream chunks, and as messages that are stored."""

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..generation.continuation import Token
from ..sessions import message_of
from ..text.answer import AnswerReader, Part, read_answer
from ..text.reasoning import ReasoningSplitter
from ..text.tool_calls import Call, ToolCallReader
from .replies import FunctionReply, MessageReply, ToolCallReply
from .response_parts import reason_of
from .tools import calls_for_template

# What templates of Mistral's models say of ids of calls, and the only length that they take.
_SHORT_IDS, _SHORT = "length 9", 9


class _Whole(NamedTuple):
    """A whole answer: its text by kind, its calls as clients know them, and why it ended."""

    part: Part
    calls: list[ToolCallReply]
    reason: Any


class Answers:
    """Answers to one request. The ids of an answer's calls are the same wherever they are shown."""

    def __init__(
        self, splitter: Callable[[], ReasoningSplitter], calls: Callable[[], ToolCallReader | None], template: str
    ) -> None:
        """`splitter` and `calls` make the readers of one answer; `template` is the model's, which may check ids."""
        self._splitter = splitter
        self._calls = calls
        self._size = _SHORT if _SHORT_IDS in template else 24
        self._salt = secrets.token_bytes(16)

    def reader(self) -> AnswerReader:
        """Reader of one answer."""
        return AnswerReader(self._splitter(), self._calls())

    def replies(self, index: int, first: int, calls: Sequence[Call]) -> list[ToolCallReply]:
        """The calls of answer `index`, from its call number `first` on, as clients know them."""
        return [
            ToolCallReply(
                id=self._id(index, number), function=FunctionReply(name=call.name, arguments=json.dumps(call.arguments))
            )
            for number, call in enumerate(calls, first)
        ]

    def _id(self, index: int, number: int) -> str:
        digest = hashlib.blake2b(f"{index} {number}".encode(), key=self._salt).hexdigest()[: self._size]
        return digest if self._size == _SHORT else f"call_{digest}"

    def _read(self, index: int, tokens: Sequence[Token]) -> _Whole:
        reader = self.reader()
        part = read_answer(reader, [token.text for token in tokens])
        calls = self.replies(index, 0, part.calls)
        return _Whole(part, calls, reason(tokens, bool(calls), reader.truncated))

    def reply(self, index: int, tokens: Sequence[Token]) -> tuple[MessageReply, Any]:
        """Answer `index` as a message, and its finish reason."""
        part, calls, why = self._read(index, tokens)
        content = part.content if part.content or not (calls or part.reasoning) else None
        message = MessageReply(content=content, reasoning_content=part.reasoning or None, tool_calls=calls or None)
        return message, why

    def stored(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """The first answer as a message for templates."""
        part, calls, _ = self._read(0, tokens)
        return message_of(part) | calls_for_template(calls)


class DeltaWriter:
    """Writer of one answer's deltas, as the OpenAI API streams them: a call's comes when the call is complete."""

    def __init__(self, answers: Answers, index: int) -> None:
        self._answers = answers
        self._index = index
        self._reader = answers.reader()
        self._calls = 0

    def push(self, text: str) -> list[dict[str, Any]]:
        """The deltas that are due after `text`."""
        return self._deltas(self._reader.push(text))

    def finish(self) -> list[dict[str, Any]]:
        """The deltas that are left once the answer has ended."""
        return self._deltas(self._reader.finish())

    def reason(self, tokens: Sequence[Token]) -> Any:
        """Finish reason of the answer of these tokens."""
        return reason(tokens, self._calls > 0, self._reader.truncated)

    def _deltas(self, part: Part) -> list[dict[str, Any]]:
        calls = self._answers.replies(self._index, self._calls, part.calls)
        shown_calls = [{"index": number, **call.model_dump()} for number, call in enumerate(calls, self._calls)]
        self._calls += len(calls)
        deltas = {"reasoning_content": part.reasoning, "content": part.content, "tool_calls": shown_calls}
        return [{name: value} for name, value in deltas.items() if value]


def reason(tokens: Sequence[Token], called: bool, truncated: bool) -> Any:
    """Finish reason of an answer: one that was cut off within a call has not made all its calls."""
    why = reason_of(tokens)
    return "tool_calls" if called and not (truncated and why == "length") else why
