"""Rules that force a call: each format's grammar makes what the format's reader reads back."""

import random
from collections.abc import Callable
from typing import Any

import llguidance
import pytest

from braidlm.errors import InputError
from braidlm.text.tool_calls import NAMES, Format, Function, ToolCallReader, formats_of, rule_of
from tests.text.made import byte_level

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "note": {"type": "string", "maxLength": 5},
        "where": {"$ref": "#/$defs/Place"},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {
        "Place": {
            "type": "object",
            "properties": {"x": {"enum": [1, 2]}},
            "required": ["x"],
            "additionalProperties": False,
        }
    },
}
FUNCTIONS = [Function("get.weather-now", WEATHER), Function("ping", {})]
EVERY_FORMAT = pytest.mark.parametrize("name", [name for name in NAMES if name != "auto"])


def format_called(name: str) -> Format:
    (found,) = formats_of(name, "", lambda text: None)
    return found


def written(rule: str, seed: int, ids: Callable[[], Any]) -> str:
    """A text that a grammar allows, by chance; texts without an end of their own are ended soon."""
    tokenizer = byte_level()
    matcher = llguidance.LLMatcher(ids(), llguidance.LLMatcher.grammar_from_lark(rule), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    end = tokenizer.encode("\n</parameter>\n", add_bos=False)
    chance, tokens = random.Random(seed), []
    while not matcher.is_stopped():
        bits = int.from_bytes(matcher.compute_bitmask(), "little")
        allowed = [i for i in range(tokenizer.vocab_size) if bits >> i & 1]
        chosen = [chance.choice(allowed)]
        if len(allowed) > 200 and chance.random() < 0.3 and matcher.validate_tokens(end) == len(end):
            chosen = end
        tokens += chosen
        matcher.consume_tokens(chosen)
        assert len(tokens) < 2000
    return tokenizer.decode(tokens)


@pytest.fixture(scope="module")
def ids() -> Callable[[], Any]:
    tokenizer = byte_level()
    ends = list(tokenizer.eos_ids)
    made = llguidance.LLTokenizer(tokenizer.to_json(), n_vocab=tokenizer.vocab_size, eos_token=ends)
    return lambda: made


@EVERY_FORMAT
@pytest.mark.parametrize("template", ["", "[ARGS]"], ids=["plain", "args"])
def test_a_forced_call_is_read_back(name: str, template: str, ids: Callable[[], Any]) -> None:
    """Oracle: the schema: values of its kinds, required arguments there, others of it or none; exactly one call."""
    form = format_called(name)
    rule = rule_of(form, FUNCTIONS[:1], template, lambda text: None)
    for seed in range(8):
        text = written(rule, seed, ids)
        reader = ToolCallReader([form], FUNCTIONS)
        parts = [*map(reader.push, text), reader.finish()]
        assert "".join(part.content for part in parts) == "", text
        (call,) = [call for part in parts for call in part.calls]
        assert call.name == "get.weather-now"
        assert {"city", "days"} <= set(call.arguments) <= {"city", "days", "note", "where"}
        assert call.arguments["city"] in ("Rome", "Oslo")
        assert type(call.arguments["days"]) is int
        assert isinstance(call.arguments.get("note", ""), str)
        assert call.arguments.get("where", {"x": 1}) in ({"x": 1}, {"x": 2})


@EVERY_FORMAT
def test_one_of_several(name: str, ids: Callable[[], Any]) -> None:
    """Oracle: the names of the functions: each is called now and then."""
    form = format_called(name)
    closed = Function("ping", {"type": "object", "properties": {}, "additionalProperties": False})
    rule = rule_of(form, [FUNCTIONS[0], closed], "", lambda text: None)
    called = set()
    for seed in range(12):
        reader = ToolCallReader([form], FUNCTIONS)
        parts = [reader.push(written(rule, seed, ids)), reader.finish()]
        called |= {call.name for part in parts for call in part.calls}
    assert called == {"get.weather-now", "ping"}


def test_markers_that_are_control_tokens(ids: Callable[[], Any]) -> None:
    """Oracle: a marker that is a control token is asked for by its id; as a text it would never be written."""
    rule = rule_of(format_called("mistral"), FUNCTIONS[:1], "", lambda text: 2 if text == "[TOOL_CALLS]" else None)
    matcher = llguidance.LLMatcher(ids(), llguidance.LLMatcher.grammar_from_lark(rule), log_level=0)
    assert int.from_bytes(matcher.compute_bitmask(), "little") == 1 << 2


def test_what_python_cannot_say() -> None:
    """Oracle: the words of the error, for a schema that does not list its properties."""
    with pytest.raises(InputError, match="the parameters of 'f' must list their properties"):
        rule_of(format_called("pythonic"), [Function("f", {"anyOf": [{"type": "object"}]})], "", lambda text: None)
