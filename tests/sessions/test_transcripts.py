"""Chats as tokens: the work for long ones, and ends of their messages."""

from collections.abc import Sequence

import pytest

from braidlm.errors import ContextLengthError
from braidlm.sessions import Transcripts
from tests.text.made import byte_level


def chat(count: int) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": f"message {i}"} for i in range(count)]


@pytest.mark.parametrize("count", [1, 5, 8, 9, 10, 500])
def test_ends_of_messages(count: int) -> None:
    """Oracle: the template's text of the first messages alone; of long chats the last 8 ends, and some before."""
    tokenizer, messages = byte_level(), chat(count)
    prompt = Transcripts(tokenizer).prompt(messages)
    ends = [len(tokenizer.render_marked(messages[: n + 1], add_generation_prompt=False)) for n in range(count)]
    found = [end.characters for end in prompt.message_ends]
    assert found[-8:] == ends[-8:]
    assert set(found) <= set(ends)
    assert found[:-8] == [ends[n - 1] for n in (1, 3, 7, 15, 30, 61, 123, 246) if n <= (count - 8) // 2]
    assert all(
        list(prompt.ids[: p.ids]) == tokenizer.encode_marked(prompt.text[: p.characters]) for p in prompt.message_ends
    )


def test_work_grows_with_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: messages rendered, by hand: nine of all but 8 at most, then of the half, the quarter, and so on."""
    tokenizer, rendered = byte_level(), []
    whole = tokenizer.render_marked

    def counting(messages: Sequence[object], **more: object) -> str:
        rendered.append(len(messages))
        return whole(messages, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(tokenizer, "render_marked", counting)
    Transcripts(tokenizer).prompt(chat(1500))
    assert len(rendered) == 9 + 10
    assert sum(rendered) < 10 * 1500


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (1001, "has 1001 tokens or more"),
        (1000, "tokens in its first 12096 characters"),
        (200, "has 3987 tokens or more"),
    ],
)
def test_chats_that_are_too_long(count: int, reason: str) -> None:
    """Oracle: bounds by hand: a message is a token at least, a text has as many as its beginning; all its tokens."""
    with pytest.raises(ContextLengthError, match=reason):
        Transcripts(byte_level(), 1000).prompt(chat(count))
