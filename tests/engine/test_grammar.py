"""Rules for texts, with a real vocabulary: SmolLM2-135M-Instruct."""

import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

import braidlm
from braidlm import LanguageModel
from braidlm.engine import Engine, Grammar, Limits, Request
from braidlm.engine.grammar import Rules
from braidlm.engine.speculation import Speculation
from braidlm.errors import InputError
from braidlm.generation.sampling import Sampling
from tests.quant.small import model_of

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer"},
        "tall": {"type": "boolean"},
    },
    "required": ["name", "age", "tall"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return braidlm.load("smollm2-135m", dtype="bfloat16")


@pytest.fixture(scope="module")
def engine(model: LanguageModel) -> Iterator[Engine]:
    with model.engine() as running:
        yield running


@pytest.fixture(scope="module")
def rules(model: LanguageModel) -> Rules:
    """Compiler of rules for the model's tokenizer."""
    assert model.tokenizer is not None
    return Rules(model.tokenizer.to_json, model.spec.vocab, model.origin.ends)


def texts(engine: Engine, model: LanguageModel, grammar: Grammar, n: int = 1, **options: object) -> list[str]:
    ids = tuple(model.encode("A person, as JSON: "))
    request = Request(ids=ids, sampling=Sampling(max_tokens=80, **options), n=n, grammar=grammar)
    found = [""] * n
    for copy, token in engine.submit(request):
        found[copy] += token.text
    return found


def test_json_of_a_schema(engine: Engine, model: LanguageModel) -> None:
    """Oracle: the json module, and the schema by hand; greedy, and two samples that differ."""
    found = texts(engine, model, Grammar.of_schema(SCHEMA))
    found += texts(engine, model, Grammar.of_schema(SCHEMA), 2, temperature=1.0, seed=1)
    assert found[1] != found[2]
    for text in found:
        made = json.loads(text)
        kinds = {name: type(value) for name, value in made.items()}
        assert kinds == {"name": str, "age": int, "tall": bool}


def test_a_regular_expression(engine: Engine, model: LanguageModel) -> None:
    """Oracle: the re module."""
    rule = r"[A-Z][a-z]{2,8} is [0-9]{1,3} years old\."
    for text in texts(engine, model, Grammar("regex", rule), 3, temperature=1.5, seed=2):
        assert re.fullmatch(rule, text)


def test_a_grammar(engine: Engine, model: LanguageModel) -> None:
    """Oracle: the sums that the grammar allows, by the re module."""
    rule = 'start: NUMBER "+" NUMBER "="\nNUMBER: /[0-9]{1,4}/'
    assert re.fullmatch(r"\d{1,4}\+\d{1,4}=", texts(engine, model, Grammar("lark", rule))[0])


# White space as `json.dumps` writes it.
RENDERED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

ENDLESS = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "count": {"type": "integer", "minimum": 3, "maximum": 9},
    },
    "required": ["day", "code", "count"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "prompt",
    [
        [{"role": "user", "content": "Give me a day, a code and a count, as JSON."}],
        "A day, a code and a count, as JSON: ",
        "Answer with JSON only.\n\n\n   ",
    ],
)
def test_a_schema_that_models_did_not_end(engine: Engine, model: LanguageModel, prompt: Any) -> None:
    """Oracle: the json, datetime and re modules, and that the text ends by itself, greedy."""
    ids = tuple(model.encode(prompt))
    request = Request(ids=ids, sampling=Sampling(max_tokens=150), grammar=Grammar.of_schema(ENDLESS))
    tokens = [token for _, token in engine.submit(request)]
    assert tokens[-1].finish == "stop"
    made = json.loads("".join(token.text for token in tokens))
    assert date.fromisoformat(made["day"])
    assert re.fullmatch("[A-Z]{3}", made["code"])
    assert 3 <= made["count"] <= 9
    assert len(made) == 3


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ('{"a":1,"b":[1,2]}', ""),
        ('{ "a" : 1 , "b" : [ 1 , 2 ] }', ""),
        ('{\n    "a": 1,\n    "b": [\n        1\n    ]\n}', ""),
        ('{\n\t"a": 1,\n\t"b": [\n\t\t1\n\t]\n}', ""),
        ('{\n"a": 1,\n"b": []\n}', ""),
        ("", " \n"),
        ("{", "\r\t"),
        ("{ ", " \n\t"),
        ("{\n", "\n\r"),
        ("{\n" + " " * 40, " \n"),
        ('{"a" ', " \n"),
        ('{"a": ', " \n"),
        ('{"a": 1, ', " \n"),
        ('{"a": 1, "b": [1, ', " \n"),
    ],
)
@pytest.mark.parametrize("kind", ["schema", "any object"])
def test_white_space_has_a_bound(model: LanguageModel, rules: Rules, kind: str, text: str, refused: str) -> None:
    """Oracle: by hand: between parts of JSON one blank, or one line break with its indentation, each letter a token."""
    integers = {"type": "array", "items": {"type": "integer"}}
    properties = {"a": {"type": "integer"}, "b": integers}
    schema = {"type": "object", "properties": properties, "required": ["a", "b"], "additionalProperties": False}
    assert model.tokenizer is not None
    rule = rules(Grammar.of_schema(schema if kind == "schema" else {"type": "object"}))()
    for letter in text:
        rule.push(*model.tokenizer.encode(letter))
    for letter in refused:
        assert not rule.allowed()[model.tokenizer.encode(letter)].any()  # type: ignore[index]


def test_a_schema_may_leave_no_white_space(model: LanguageModel, rules: Rules) -> None:
    """Oracle: by hand: separators as the schema's own words say, and nothing beside them."""
    assert model.tokenizer is not None
    rule = rules(Grammar.of_schema({**SCHEMA, "x-guidance": RENDERED}))()
    (begin, quote, blank) = (model.tokenizer.encode(text)[0] for text in ('{"', '"', " "))
    assert not rule.allowed()[[quote, blank]].any()  # type: ignore[index]
    rule.push(begin)
    assert model.tokenizer.decode(rule.forced()).startswith('name":')


def test_the_same_rule_is_compiled_once(model: LanguageModel, rules: Rules) -> None:
    """Oracle: by hand: two texts of one compiled rule know nothing of each other, and equal rules are one."""
    assert model.tokenizer is not None
    rule = rules(Grammar("regex", "ab|cd"))
    assert rules(Grammar("regex", "ab|cd")) is rule
    one, other = rule(), rule()
    a, b, c = (model.tokenizer.encode(letter)[0] for letter in "abc")
    one.push(a)
    assert [bool(one.allowed()[token]) for token in (a, b, c)] == [False, True, False]  # type: ignore[index]
    assert [bool(other.allowed()[token]) for token in (a, b, c)] == [True, False, True]  # type: ignore[index]


def test_forced_tokens_change_nothing(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: an engine without drafts; with them the names of fields come in fewer passes."""
    rule = {**SCHEMA, "x-guidance": RENDERED}
    found = []
    monkeypatch.setattr(Speculation, "draft_length", lambda self, _: self.most)
    for most in (0, 15):
        with model.engine(limits=Limits(speculative_tokens=most)) as engine:
            for options in ({}, {"temperature": 1.0, "seed": 4, "frequency_penalty": 0.5}):
                found.append(texts(engine, model, Grammar.of_schema(rule), **options)[0])
            stats = engine.stats
    assert found[:2] == found[2:]
    assert stats.accepted_tokens > 10


@pytest.mark.parametrize(
    "grammar", [Grammar("regex", "(a"), Grammar("lark", "junk {"), Grammar("json_schema", "{oops")]
)
def test_rules_that_are_none(engine: Engine, model: LanguageModel, grammar: Grammar) -> None:
    """Oracle: the error's kind and words; the engine goes on."""
    with pytest.raises(InputError, match=f"the {grammar.kind} cannot be followed"):
        texts(engine, model, grammar)


def test_without_a_tokenizer() -> None:
    """Oracle: the error's words."""
    request = Request(ids=(1,), sampling=Sampling(), grammar=Grammar("regex", "a"))
    with model_of("mamba2").engine() as engine, pytest.raises(InputError, match="no tokenizer"):
        engine.submit(request)
