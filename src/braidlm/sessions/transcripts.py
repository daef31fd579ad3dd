"""Chats as token ids, such that earlier answers keep the ids that they were generated with.

A text can be spelled in several ways in tokens, and a model rarely generates the one that the tokenizer would give. So
whoever knows texts with their ids (a session its own, `ChatMemory` those of plain chats) says which prefix of a
rendered chat is known, and only the suffix after it is turned into ids.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..errors import ContextLengthError, InputError
from ..text.reasoning import for_template
from ..text.tokenizer import Tokenizer

Message = Mapping[str, Any]


class MessageEnd(NamedTuple):
    """End of a message: the number of characters of the text, and of its ids, before it."""

    characters: int
    ids: int


class Prompt(NamedTuple):
    """Prompt of a chat: its text, its ids, and the ends of those messages that were not known."""

    text: str
    ids: tuple[int, ...]
    message_ends: tuple[MessageEnd, ...]

    @property
    def message_boundaries(self) -> tuple[int, ...]:
        """Lengths in ids at which messages end."""
        return tuple(end.ids for end in self.message_ends)


Known = Callable[[str], tuple[int, Sequence[int]]]


def nothing(_: str) -> tuple[int, Sequence[int]]:
    """Lookup that knows no prefix of any text."""
    return 0, ()


def known_of(text: str, ids: Sequence[int], message_ends: Sequence[MessageEnd]) -> Known:
    """Lookup of the longest prefix that a text shares with this one, up to one of its `message_ends`."""

    def known(other: str) -> tuple[int, Sequence[int]]:
        ends = sorted(message_ends)
        common = bisect_left(ends, True, key=lambda end: not other.startswith(text[: end.characters]))
        return (ends[common - 1].characters, ids[: ends[common - 1].ids]) if common else (0, ())

    return known


# Ends of messages that are looked for at the end of a chat. Each takes a rendering of all messages before it. Before
# those half of the messages are rendered, then a quarter: the work grows with the messages, not with their square.
_LAST = 8


class Transcripts:
    """Renderer of chats as prompts of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, most: int | None = None) -> None:
        """`most` is how many tokens a chat may have; one that has more is refused before it is tokenized."""
        self._tokenizer = tokenizer
        self._most = most

    def prompt(self, messages: Sequence[Message], known: Known = nothing, /, **variables: Any) -> Prompt:
        """The prompt for an answer to `messages`; `variables` are for the model's template.

        `known` looks up the known prefix of a text: its number of characters, and its ids.
        """
        self._require_tokens(len(messages))
        messages = self._for_template(messages, variables)
        text = self._tokenizer.render_marked(messages, **variables)
        size, ids = known(text)
        if self._most is not None:
            self._tokenizer.require_tokens(text[size:], self._most)
        rest, joined = self._encode(text[size:]), []
        self._require_tokens(len(ids) + len(rest))
        ends = self._ends_of_messages(messages, text, size, variables)
        pieces = [self._encode(text[a:b]) for a, b in pairwise([size, *ends, len(text)])]
        message_ends = []
        for end, piece in zip(ends, pieces, strict=False):
            joined += piece
            if joined != rest[: len(joined)]:  # a token spans the end of this message
                break
            message_ends.append(MessageEnd(end, len(ids) + len(joined)))
        return Prompt(text, (*ids, *rest), tuple(message_ends))

    def _require_tokens(self, least: int) -> None:
        """Refuses a chat that has at least so many tokens; a message is one at least."""
        if self._most is not None and least > self._most:
            raise ContextLengthError(f"the chat has {least} tokens or more, but may have {self._most}")

    def generation_prompt(self, messages: Sequence[Message], text: str, variables: Mapping[str, Any]) -> str:
        """Part of a prompt's `text` after the last of its `messages`; its last line if that cannot be found."""
        try:
            shown = self._for_template(messages, variables)
            begun = self._tokenizer.render_marked(shown, add_generation_prompt=False, **variables)
        except InputError:
            begun = ""
        if begun and text.startswith(begun) and len(begun) < len(text):
            return text[len(begun) :]
        return text.rstrip().rpartition("\n")[2]

    def template(self, variables: Mapping[str, Any]) -> str:
        """The template that is rendered with `variables`: with tools it may be another one."""
        tokenizer = self._tokenizer
        return (tokenizer.tool_template if variables.get("tools") else tokenizer.chat_template) or ""

    def _for_template(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Messages as the model's template wants them."""
        template = self.template(variables)
        return [for_template(message, template) for message in messages]

    def text_of(self, ids: Sequence[int]) -> str:
        """Text of an answer's ids, control tokens included."""
        return self._tokenizer.decode(ids, skip_special=False)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode_marked(text) if text else []

    def _ends_of_messages(
        self, messages: Sequence[Message], text: str, known: int, variables: Mapping[str, Any]
    ) -> list[int]:
        """Ends of messages in `text` after its first `known` characters: the last ones, and some before."""
        boundaries: list[int] = []
        for count in _counts(len(messages)):
            try:
                begun = self._tokenizer.render_marked(messages[:count], add_generation_prompt=False, **variables)
            except InputError:  # a template may want the last message to be a user's
                continue
            if len(begun) <= known:
                break
            if text.startswith(begun) and len(begun) < len(text):
                boundaries.append(len(begun))
        return sorted(set(boundaries))


def _counts(messages: int) -> Iterator[int]:
    """Numbers of messages whose ends are looked for, the largest first."""
    first = max(messages - _LAST, 0)
    yield from range(messages, first, -1)
    while first > 1:
        first //= 2
        yield first
