"""Reasoning that a model writes before its answer, split off as the text arrives.

Reasoning stands at the beginning of an answer between two tags; a prompt may have written the first of them already.
White space at either end of the reasoning, and before the answer after it, belongs to neither.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .marks import partial

# Names under which templates look for the reasoning of earlier answers.
_FIELDS = ("reasoning_content", "reasoning", "thinking")
FIELD = _FIELDS[0]


@dataclass(frozen=True)
class Tags:
    """The texts that begin and end reasoning, and those that stand around the answer after it, if there are any."""

    begin: str
    end: str
    answer: tuple[str, str] = ("", "")


THINK = Tags("<think>", "</think>")
# Searched for in a chat template in this order; a template that tells nothing may belong to a model that has THINK.
_TAGS = (
    Tags("[THINK]", "[/THINK]"),  # Mistral
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command
    THINK,  # Qwen, DeepSeek, Granite 3.3, SmolLM3, Nemotron
    Tags("Here is my thought process:", "Here is my response:"),  # Granite 3.2
)
_ANSWER = ("<response>", "</response>")  # Granite 3.3


def tags_of(template: str) -> Tags:
    """The tags that a chat template tells of, else `<think>`."""
    found = next((tags for tags in _TAGS if tags.begin in template or tags.end in template), THINK)
    return replace(found, answer=_ANSWER) if _ANSWER[0] in template else found


def thinks(template: str) -> bool:
    """Whether a chat template tells that its model may reason first."""
    return any(tags.begin in template or tags.end in template for tags in _TAGS)


def begun_by(generation_prompt: str, tags: Tags) -> bool:
    """Whether a prompt ends with reasoning that has begun: `generation_prompt` is what follows its last message."""
    return generation_prompt.rfind(tags.begin) > generation_prompt.rfind(tags.end)


def for_template(message: Mapping[str, Any], template: str) -> dict[str, Any]:
    """A message as a chat template wants it: its reasoning under the name that the template reads, or left out.

    Reasoning that the content repeats between tags is taken out of the content, so that no template writes it twice.
    """
    told = {key: value for key, value in message.items() if key != FIELD}
    reasoning = message.get(FIELD)
    if not reasoning:
        return told
    content = told.get("content")
    if isinstance(content, str):
        again = ReasoningSplitter(tags_of(template))
        parts = again.push(content), again.finish()
        if "".join(part.reasoning for part in parts) == reasoning.strip():
            told["content"] = "".join(part.content for part in parts)
    field = next((name for name in _FIELDS if _reads(template, name)), None)
    return told if field is None else {**told, field: reasoning}


def _reads(template: str, field: str) -> bool:
    """Whether a template reads a field of something, as in `message.reasoning` or `message["reasoning"]`."""
    return re.search(rf"""\.{field}\b|\[['"]{field}['"]\]|['"]{field}['"] in """, template) is not None


class Split(NamedTuple):
    """Text that has become certain: reasoning and content."""

    reasoning: str = ""
    content: str = ""


class ReasoningSplitter:
    """Splitter of one answer."""

    def __init__(self, tags: Tags, begun: bool = False) -> None:
        """`begun`: the prompt has written the first tag."""
        self._tags = tags
        self._held = ""
        self._opening, self._closing = tags.answer
        self._place = "inside" if begun else "before"  # then "after", or "none" without reasoning
        self._blank = True  # nothing but white space since the last tag
        self._repeats = begun  # a model may write the prompt's tag again

    def push(self, text: str) -> Split:
        """Adds `text`; gives what has become certain."""
        self._held += text
        found = Split()
        if self._place == "before" and self._begins():
            return found
        if self._place == "inside":
            found = self._inside()
        if self._place == "after":
            found = found._replace(content=self._after())
        elif self._place == "none":
            found, self._held = Split(content=self._held), ""
        return found

    def finish(self) -> Split:
        """Ends the answer; gives what is left."""
        held, self._held = self._held, ""
        if self._place == "inside":
            return Split(reasoning=(held.lstrip() if self._blank else held).rstrip())
        return Split(content=held)

    def _begins(self) -> bool:
        """Looks for the first tag; whether more text is needed to tell."""
        body = self._held.lstrip()
        if body.startswith(self._tags.begin):
            self._held, self._place = body[len(self._tags.begin) :], "inside"
            return False
        if self._tags.begin.startswith(body):
            return True
        self._place = "none"
        return False

    def _inside(self) -> Split:
        """Takes reasoning, and the last tag where it is; a first tag that repeats the prompt's is left out."""
        text = self._held.lstrip() if self._blank else self._held
        if self._repeats:
            if len(text) < len(self._tags.begin) and self._tags.begin.startswith(text):
                self._held = text
                return Split()
            self._repeats = False
            text = text.removeprefix(self._tags.begin).lstrip()
        place = text.find(self._tags.end)
        if place >= 0:
            self._held, self._place, self._blank = text[place + len(self._tags.end) :], "after", True
            return Split(reasoning=text[:place].rstrip())
        certain = text[: len(text) - partial(text, [self._tags.end])].rstrip()
        self._held = text[len(certain) :]
        self._blank = self._blank and not certain
        return Split(reasoning=certain)

    def _after(self) -> str:
        """Takes content, without the tags that may stand around it."""
        text, self._held = self._held, ""
        if self._blank:
            text = text.lstrip()
            if len(text) < len(self._opening) and self._opening.startswith(text):
                self._held = text
                return ""
            if self._opening and text.startswith(self._opening):
                text = text[len(self._opening) :].lstrip()
            self._opening = ""
            self._blank = not text
        if self._closing and (place := text.find(self._closing)) >= 0:
            text, self._closing = text[:place] + text[place + len(self._closing) :], ""
        if self._closing:
            cut = len(text) - partial(text, [self._closing])
            text, self._held = text[:cut], text[cut:]
        return text
