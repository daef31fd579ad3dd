"""Conversations to tokens: rendered by the model's template, trained on the assistant's answers.

What the assistant wrote is found without knowing the template. Up to an answer, the conversation reads as the prompt
that asks for that answer; with it, as the conversation that ends there. Where these two leave the tokens of the whole
conversation, the answer begins and ends.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from ...errors import InputError
from ...text.tokenizer import Tokenizer
from .messages import template_messages

# A prompt may end in tokens of its own: line ends that merge with the answer, or the begin of a thought that later
# conversations leave out. More than this and the template rewrites earlier messages.
_OWN = 3

Messages = Sequence[Mapping[str, Any]]


def encode_chat(tokenizer: Tokenizer, messages: Any, tools: Any, end: int | None) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, and for each whether it is the assistant's and a target of training.

    An answer includes the control token that ends it, and not the white space which the template writes behind that.
    If the last answer ends without a control token, `end` is appended, so that there is something to stop at. Answers
    with the weight 0 are read and not learned. `InputError` if there is no answer to learn from, or if the template
    renders a message differently later on.
    """
    messages, learned = template_messages(messages)
    render = _Renderer(tokenizer, tools)
    ids = render.ids(messages, prompt=False)
    trained = [False] * len(ids)
    for number, message in enumerate(messages):
        last = number + 1 == len(messages)
        if not learned[number] and not (last and message["role"] == "assistant"):
            continue
        begin = _leaves(render.ids(messages[:number], prompt=True), ids, number)
        stop = len(ids) if last else _leaves(render.ids(messages[: number + 1], prompt=False), ids, number)
        stop = _without_space(tokenizer, ids, begin, stop)
        trained[begin:stop] = [learned[number]] * (stop - begin)
        if last and end is not None and ids[stop - 1] not in tokenizer.special_ids:
            ids.append(end)
            trained += [learned[number]]
    if not any(trained):
        raise InputError("is a conversation in which the chat template leaves nothing of the assistant's")
    return ids, trained


class _Renderer:
    """Renderer of messages to token ids. Control tokens written into a message are read as plain text."""

    def __init__(self, tokenizer: Tokenizer, tools: Any) -> None:
        self._tokenizer, self._tools = tokenizer, tools

    def ids(self, messages: Messages, *, prompt: bool) -> list[int]:
        text = self._tokenizer.render_marked(messages, add_generation_prompt=prompt, tools=self._tools)
        return self._tokenizer.encode_marked(text)


def _leaves(part: Sequence[int], whole: Sequence[int], number: int) -> int:
    """Position at which `part` leaves `whole`, which must be near the end of `part`."""
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(part, whole)))
    if len(part) - common > _OWN:
        raise InputError(
            f"is a conversation that the chat template rewrites after message {number + 1}, so that the assistant's "
            "tokens cannot be told apart; cut it after that message"
        )
    return common


def _without_space(tokenizer: Tokenizer, ids: Sequence[int], begin: int, stop: int) -> int:
    """Position `stop`, or the one after the last control token if only white space follows it."""
    control = next((place for place in range(stop - 1, begin - 1, -1) if ids[place] in tokenizer.special_ids), None)
    if control is None or tokenizer.decode(ids[control + 1 : stop]).strip():
        return stop
    return control + 1
