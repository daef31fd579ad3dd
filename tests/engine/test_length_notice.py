"""The warning beyond the usable length: once a model, whoever asks, and it never ends a text."""

import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest

from braidlm.api.language_model import LanguageModel
from braidlm.engine import Request
from braidlm.errors import LengthWarning
from braidlm.generation.sampling import Sampling
from tests.quant.small import model_of

PROMPT = [1, 2, 3, 4, 5, 6]


@pytest.fixture
def model() -> LanguageModel:
    """A model that was measured to be usable up to ten tokens."""
    plain = model_of("llama")
    return LanguageModel(plain.network, None, replace(plain.origin, usable_length=10))


@pytest.fixture
def noted() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


def test_up_to_the_length(model: LanguageModel, noted: list[warnings.WarningMessage]) -> None:
    """Oracle: no warning: ten tokens in all, prompt and answer."""
    model.generate(PROMPT, max_tokens=4)
    assert not noted


@pytest.mark.parametrize(("prompt", "tokens"), [(PROMPT, 6), (PROMPT * 2, 1)])
def test_once(model: LanguageModel, noted: list[warnings.WarningMessage], prompt: list[int], tokens: int) -> None:
    """Oracle: one sentence, by a prompt that is longer or one that grows; the same text as of a model without it."""
    plain = LanguageModel(model.network, None, replace(model.origin, usable_length=None))
    expected = plain.generate(prompt, max_tokens=tokens)
    assert not noted
    for _ in range(2):
        assert model.generate(prompt, max_tokens=tokens) == expected
    (one,) = noted
    assert one.category is LengthWarning
    assert "more than 10 tokens" in str(one.message) and "measured to be usable" in str(one.message)


def test_engines_of_a_model_say_it_once(model: LanguageModel, noted: list[warnings.WarningMessage]) -> None:
    """Oracle: one sentence from two engines with threads of their own, whose texts grow beyond the length."""
    for _ in range(2):
        with model.engine() as engine:
            made = list(engine.submit(Request(ids=tuple(PROMPT), sampling=Sampling(max_tokens=20))))
        assert len(made) == 20
    assert [one.category for one in noted] == [LengthWarning]


def test_an_engine_goes_on_where_warnings_are_errors(model: LanguageModel) -> None:
    """Oracle: all tokens, though the warning that is due in the engine's own thread would be raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with model.engine() as engine:
            assert len(list(engine.submit(Request(ids=tuple(PROMPT), sampling=Sampling(max_tokens=20))))) == 20
