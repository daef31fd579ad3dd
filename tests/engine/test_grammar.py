"""Rules for texts, with a real vocabulary: SmolLM2-135M-Instruct."""

import json
import re
from collections.abc import Iterator

import pytest

import braidlm
from braidlm import LanguageModel
from braidlm.engine import Engine, Grammar, Request
from braidlm.errors import InputError
from braidlm.sampling import Sampling
from tests.test_quantize import model_of

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


def texts(engine: Engine, model: LanguageModel, grammar: Grammar, copies: int = 1, **options: object) -> list[str]:
    ids = tuple(model.encode("A person, as JSON: "))
    request = Request(ids=ids, sampling=Sampling(max_new_tokens=80, **options), copies=copies, grammar=grammar)
    found = [""] * copies
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
