"""Tool calls and reasoning in outputs of models: whole, character by character, and cut anywhere."""

import json
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidlm.errors import InputError
from braidlm.text.answer import AnswerReader, read_answer
from braidlm.text.reasoning import THINK, ReasoningSplitter
from braidlm.text.tool_calls import NAMES, Function, ToolCallReader, formats_of
from braidlm.text.tool_calls.cursor import Cursor
from braidlm.text.tool_calls.qwen_xml import typed

HERE = Path(__file__).parent
PUBLISHED = json.loads((HERE / "tool_calls.json").read_text())
MORE = json.loads((HERE / "more_tool_calls.json").read_text())
FUNCTIONS = [Function(name, schema) for name, schema in MORE["tools"].items()]
CASES = {case["name"]: case for case in [*PUBLISHED["cases"], *MORE["cases"]]}
EVERY_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def no_token(text: str) -> None:
    """A vocabulary without any marker."""


def reader_of(name: str = "auto", template: str = "", parallel: bool = True) -> AnswerReader:
    calls = ToolCallReader(formats_of(name, template, no_token), FUNCTIONS, parallel)
    return AnswerReader(ReasoningSplitter(THINK), calls)


def read(pieces: Sequence[str], **how: Any) -> tuple[str, str, list[list[Any]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part = read_answer(reader_of(**how), list(pieces))
    return part.content, part.reasoning, [list(call) for call in part.calls]


def expected(case: dict[str, Any]) -> tuple[str, str, list[list[Any]]]:
    return case["content"], case.get("reasoning", ""), case["calls"]


@EVERY_CASE
def test_whole_and_by_characters(case: dict[str, Any]) -> None:
    """Oracle: the right values by hand in the two files, for outputs as published models write them."""
    assert read([case["output"]]) == expected(case)
    assert read(list(case["output"])) == expected(case)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(list(CASES.values())), st.lists(st.integers(0, 400), max_size=12))
def test_cut_anywhere(case: dict[str, Any], cuts: list[int]) -> None:
    """Oracle: the same right values."""
    text = case["output"]
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    assert read([text[a:b] for a, b in pairwise(places)]) == expected(case)


PARTS = [
    *("<tool_call>", "</tool_call>", "<|tool_call|>", "<|tool_call_start|>", "<|python_tag|>", "[TOOL_CALLS]"),
    *('{"name": "add", "arguments": {"a": 1}}', '{"name": "add", "argu', "[add(a=1)]", "add[ARGS]", "add(", "a="),
    *("<function=add>", "<parameter=a>", "</parameter>", "</function>", "<think>", "</think>", "text"),
    *("[", "]", "{", "}", ")", ", ", "; ", "\n", " ", '"', "'", "\\", "1"),
]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join), st.integers(1, 7))
def test_scrambled_outputs(text: str, size: int) -> None:
    """Oracle: the whole text at once; without calls and reasoning, the text itself."""
    whole = read([text])
    assert read([text[at : at + size] for at in range(0, len(text), size)]) == whole
    assert read(list(text)) == whole
    if not whole[1] and not whole[2] and "<think>" not in text:
        assert whole[0] == text


def test_text_is_shown_at_once() -> None:
    """Oracle: what cannot be a call any more is not held back; a call is told when it is complete."""
    reader = reader_of()
    assert reader.push("The tag <tool").content == "The tag "
    assert reader.push("_call> s").content == "<tool_call> s"
    assert reader_of().push("[1").content == "[1"
    assert reader_of().push('{"city').content == '{"city'
    assert reader_of().push('{"name": "B').content == '{"name": "B'
    assert reader_of().push("[ad-hoc").content == "[ad-hoc"
    reader = reader_of()
    first = reader.push('[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}')
    assert [call.arguments for call in first.calls] == [{"a": 1}]
    assert not reader.truncated
    reader.push(', {"name": ')
    assert reader.finish().content == '{"name": '
    assert reader.truncated


def test_first_call_alone() -> None:
    """Oracle: `parallel_tool_calls: false` of the OpenAI API: one call, whatever follows."""
    for case in CASES.values():
        assert read(list(case["output"]), parallel=False) == (*expected(case)[:2], case["calls"][:1])


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "add", "arguments": {"s": "' + "x" * 100_000 + '"}}</tool_call>',
        "[add(s='" + "x(" * 50_000 + "')]",
        "<tool_call><function=add><parameter=s>" + "a<b>" * 25_000 + "</parameter></function></tool_call>",
        "[TOOL_CALLS]add[ARGS]" + '{"s": "' + "\\n" * 50_000 + '"}',
    ],
    ids=["hermes", "pythonic", "qwen-xml", "mistral"],
)
def test_long_arguments(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: 100,000 characters in one argument, one by one: they are put together at the end, and not before."""
    joined: list[int] = []
    whole = Cursor.pending
    monkeypatch.setattr(Cursor, "pending", lambda self: joined.append(1) or whole(self))
    part = read_answer(reader_of(), list(text))
    assert len(part.calls[0].arguments["s"]) >= 50_000
    assert len(joined) <= 2


@pytest.mark.parametrize(
    "marker", ["<function=", "<tool_call><function=f><parameter=", "<tool_call>", "[TOOL_CALLS]", "[a("]
)
def test_markers_again_and_again(marker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the text itself; behind a marker without a call some hundred characters are read again, not all."""
    read_on: list[int] = []
    append = Cursor.append_text
    monkeypatch.setattr(Cursor, "append_text", lambda self, text: read_on.append(len(text)) or append(self, text))
    text = marker * 2000 + " x>"
    assert read([text]) == (text, "", [])
    assert sum(read_on) < 520 * 2 * (2000 + len(text) // 512)


@pytest.mark.parametrize(("levels", "called"), [(100, True), (101, False), (990, False), (20_000, False)])
def test_depth_of_arguments_within_a_text(levels: int, called: bool) -> None:
    """Oracle: the bound of 100 levels, where a text holds the arguments: beyond it that is content, or stays a text."""
    arguments = json.dumps('{"a":' * levels + "1" + "}" * levels)
    text = f'<tool_call>{{"name": "add", "arguments": {arguments}}}</tool_call>'
    content, _, calls = read([text])
    assert (content, len(calls)) == (("", 1) if called else (text, 0))
    value = "[" * (levels - 1) + "]" * (levels - 1)
    text = f"<function=run-code><parameter=tags>{value}</parameter></function>"
    assert read([text])[2] == [["run-code", {"tags": json.loads(value) if called else value}]]


ITSELF = {"anyOf": [{"$ref": "#/$defs/A"}] * 300}


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ('["Rome", True]', {"type": "array"}, ["Rome", True]),
        ("{'Key': None}", {"type": "object"}, {"Key": None}),
        ("1,200", {"type": "integer"}, "1,200"),
        (" TRUE\n", {"type": "boolean"}, True),
        ("None", {"type": ["string", "null"]}, None),
        ("7", {"type": "string"}, "7"),
        ("7", {"type": None}, "7"),
        ("7", {"type": 5, "enum": None, "anyOf": None, "$ref": 5}, "7"),
        ("7", {"type": ["integer", None, {}]}, 7),
        ("7", {"enum": [1, 7]}, 7),
        ("7", {"$ref": "#/$defs/A"}, "7"),
        ("7", {"$ref": "#/$defs/B"}, 7),
        ("7", {"$ref": "#/definitions/B"}, "7"),
        ("7", True, "7"),
    ],
)
def test_values_by_their_schemas(value: str, schema: Any, expected: Any) -> None:
    """Oracle: JSON Schema's types by hand; schemas that are wrong, or refer to themselves, say nothing."""
    root = {"$defs": {"A": ITSELF, "B": {"oneOf": [{"type": "integer"}]}}, "definitions": None}
    found = typed(value, root, schema)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("opened", ['{"a":', "[", '{"name": "add", "arguments": {"a": ' + "["])
def test_deep_nesting(opened: str) -> None:
    """Oracle: the text itself, without a RecursionError."""
    text = f"<tool_call>{opened * 20_000}"
    assert read([text]) == (text, "", [])
    text = f"[add(a={'[' * 20_000}"
    assert read([text]) == (text, "", [])
    text = f"[add(a={'-' * 100_000}1)]"
    assert read([text]) == (text, "", [])


SIGNS = {
    "<tool_call>{json}</tool_call>": "hermes",
    "respond only with <|tool_call|> followed by a JSON list": "granite",
    "<|start_header_id|>ipython<|end_header_id|> <|python_tag|>": "llama",
    "[func_name1(params_name1=params_value1)]": "pythonic",
    "<|tool_list_start|>": "lfm2",
    "<TOOLCALL>[{{ tool_call }}]</TOOLCALL>": "nemotron",
    "<tool_call>\n<function=example>\n<parameter=a>": "qwen-xml",
    "{{ '[TOOL_CALLS]' + tool.name + '[ARGS]' }}": "mistral",
}


@pytest.mark.parametrize(("template", "name"), SIGNS.items(), ids=SIGNS.values())
def test_the_format_by_the_template(template: str, name: str) -> None:
    """Oracle: what templates of published models of the format say; a name that was given counts more."""
    assert [form.name for form in formats_of("auto", template, no_token)] == [name]
    assert [form.name for form in formats_of("hermes", template, no_token)] == ["hermes"]


def test_the_format_by_the_vocabulary() -> None:
    """Oracle: the control token of LFM2.5, whose template does not tell; then every format is read."""
    found = formats_of("auto", "", lambda text: 7 if text == "<|tool_call_start|>" else None)
    assert found[0].name == "lfm2" and len(found) == len(NAMES) - 1
    with pytest.raises(InputError, match="there is no tool format 'xml'; the formats are auto, granite"):
        formats_of("xml", "", no_token)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "auto"])
def test_every_output_in_every_format(name: str) -> None:
    """Oracle: the whole text at once; an output of another format loses nothing: it is content as a whole."""
    for case in CASES.values():
        whole = read([case["output"]], name=name)
        assert read(list(case["output"]), name=name) == whole
        if not whole[1] and not whole[2] and "<think>" not in case["output"]:
            assert whole[0] == case["output"]


def test_one_format_alone() -> None:
    """Oracle: markers of other formats are text."""
    text = "[TOOL_CALLS]add[ARGS]{}"
    assert read([text], name="hermes") == (text, "", [])
    assert read([text], name="mistral")[2] == [["add", {}]]
