"""A side of a comparison as a process: what it is asked, what it answers, and how it fails."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from braidlm.bench.contestant import KINDS, Contestant, Kind
from braidlm.errors import UnavailableError

FAKE = Kind("fake", "tests.bench.fake_side", ("bf16", "int4"), "nothing gets it")


def refused(act: Callable[[], Any], why: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        act()
    assert str(caught.value) == why


def test_answers_are_those_of_the_side() -> None:
    """Oracle: what the fake side computes from its arguments; what its libraries print goes elsewhere."""
    with Contestant(FAKE) as side:
        assert side.load(Path("x"), "bf16", 2) == {"library": "fake", "setting": "bf16", "threads": 2}
        assert side.prefill(7) == 0.007
        assert side.decode(5, 3, 2) == pytest.approx(5.32)
        memory = side.memory()
    assert 0 < memory["now"] <= memory["peak"]


def test_a_refusal_is_one_sentence_and_the_side_goes_on() -> None:
    """Oracle: the first line of what the side raised."""
    with Contestant(FAKE) as side:
        refused(lambda: side.load(Path("x"), "int4", 1), "fake failed to load: ValueError: int4 is not")
        assert side.prefill(1) == 0.001


def test_a_side_that_dies_is_told() -> None:
    """Oracle: the process's exit code, and its last words where it has any."""
    with Contestant(FAKE) as side:
        refused(lambda: side.prefill(13), "fake ended before it answered (exit code 3)")
    with Contestant(replace(FAKE, module="tests.bench.no_side")) as side:
        missing = "fake is not installed there (No module named tests.bench.no_side); nothing gets it"
        refused(lambda: side.prefill(1), missing)


def test_an_interpreter_that_is_none() -> None:
    """Oracle: the sentence."""
    why = "the interpreter /no/python cannot be run: No such file or directory"
    refused(lambda: Contestant(KINDS["llama.cpp"], "/no/python"), why)


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is not None, reason="llama-cpp-python is installed")
def test_a_baseline_that_is_not_installed() -> None:
    """Oracle: the sentence, which says how to get it."""
    with Contestant(KINDS["llama.cpp"], sys.executable) as side:
        why = f"llama.cpp is not installed there (No module named 'llama_cpp'); {KINDS['llama.cpp'].remedy}"
        refused(lambda: side.load(Path("x"), "bf16", 1), why)
