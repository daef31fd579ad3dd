"""Reasoning in outputs and in templates."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidlm.text.answer import AnswerReader, Part, read_answer
from braidlm.text.reasoning import (
    FIELD,
    THINK,
    ReasoningSplitter,
    Tags,
    begun_by,
    for_template,
    tags_of,
    thinks,
)

MISTRAL = Tags("[THINK]", "[/THINK]")
ANSWERS = Tags("<think>", "</think>", ("<response>", "</response>"))  # Granite 3.3
GRANITE = Tags("Here is my thought process:", "Here is my response:")
# Tags, whether the prompt has begun the reasoning, the output, and its reasoning and content.
OUTPUTS = {
    "nothing": (THINK, False, "", "", ""),
    "none": (THINK, False, " \nYes, <think>.", "", " \nYes, <think>."),
    "first": (THINK, False, "\n<think>\nA\n\nB\n</think>\n\nYes. \n", "A\n\nB", "Yes. \n"),
    "empty": (THINK, False, "<think>\n\n</think>\n\nYes", "", "Yes"),
    "begun": (THINK, True, "\nA <b </thin\n</think>Yes</think>", "A <b </thin", "Yes</think>"),
    "begun, and once more": (THINK, True, "<think>\nA</think>B", "A", "B"),
    "not closed": (THINK, True, "A \n", "A", ""),
    "half a tag at the end": (THINK, True, "A</thi", "A</thi", ""),
    "half a tag alone": (THINK, False, "<thi", "", "<thi"),
    "twice": (THINK, False, "<think>A</think>B<think>C</think>", "A", "B<think>C</think>"),
    "mistral": (MISTRAL, False, "[THINK]A[/THINK]B", "A", "B"),
    "answer in tags": (ANSWERS, False, "<think>A</think>\n<response>\nB </resp x</response>", "A", "B </resp x"),
    "answer without its tags": (ANSWERS, True, "A</think> <b></res", "A", "<b></res"),
    "granite": (GRANITE, False, "Here is my thought process: A Here is my response:\n\nB", "A", "B"),
}


@pytest.mark.parametrize(("tags", "begun", "text", "reasoning", "content"), OUTPUTS.values(), ids=OUTPUTS)
def test_split(tags: Tags, begun: bool, text: str, reasoning: str, content: str) -> None:
    """Oracle: by hand; the same however the text is cut."""
    for size in (1, 2, 3, 5, 1000):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert read_answer(AnswerReader(ReasoningSplitter(tags, begun)), pieces) == Part(reasoning, content)


TAGS = ("<think>", "</think>", "<response>", "</response>")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([*TAGS, "<", ">", "</re", "th", "\n", " ", "a"]), max_size=10).map("".join),
    st.sampled_from([THINK, ANSWERS]),
    st.booleans(),
    st.integers(1, 4),
)
def test_any_cut(text: str, tags: Tags, begun: bool, size: int) -> None:
    """Oracle: the whole text at once."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    whole = read_answer(AnswerReader(ReasoningSplitter(tags, begun)), [text])
    assert read_answer(AnswerReader(ReasoningSplitter(tags, begun)), pieces) == whole


def test_reasoning_is_shown_at_once() -> None:
    """Oracle: all but white space and what may begin the closing tag is certain."""
    splitter = ReasoningSplitter(THINK)
    shown = [splitter.push(text).reasoning for text in ("<think>", "\nI ", "think", " <", "/th", "at")]
    assert shown == ["", "I", " think", "", "", " </that"]


def test_what_templates_tell() -> None:
    """Oracle: phrases in templates of published models: Magistral, Qwen 3, Granite 3.2, SmolLM2."""
    assert tags_of("{{ '[THINK]' + block['thinking'] + '[/THINK]' }}") == MISTRAL
    assert tags_of("message.content.split('</think>')[-1]") == THINK
    assert tags_of("Write 'Here is my thought process:' first") == GRANITE
    assert tags_of("<|im_start|>") == THINK
    assert (
        tags_of("Write your thoughts between <think></think> and your response between <response></response>")
        == ANSWERS
    )
    assert thinks("split('</think>')") and not thinks("<|im_start|>")
    assert begun_by("<|im_start|>assistant\n<think>\n", THINK)
    assert not begun_by("<|im_start|>assistant\n<think>\n\n</think>\n\n", THINK)
    assert not begun_by("<|im_start|>assistant\n", THINK)


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ("{{ message.reasoning_content }}</think>", "reasoning_content"),
        ("{% if 'reasoning_content' in message %}", "reasoning_content"),
        ("{{ message['reasoning'] }}", "reasoning"),
        ("{{ message.thinking }}", "thinking"),
        ("{{ message.content.split('</think>')[-1] }}", None),
        ("{% if thinking %}{{ message.content }}", None),
    ],
)
def test_replayed_reasoning(template: str, field: str | None) -> None:
    """Oracle: the field that the template reads, or none; the content never repeats the reasoning."""
    message = {"role": "assistant", "content": "Yes", FIELD: "Why"}
    wanted = {"role": "assistant", "content": "Yes", **({field: "Why"} if field else {})}
    assert for_template(message, template) == wanted
    assert for_template(message | {"content": "<think>\nWhy\n</think>\n\nYes"}, template) == wanted
    other = {"role": "assistant", "content": "<think>Else</think>Yes"}
    assert for_template(other, template) == other
