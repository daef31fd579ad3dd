"""Messages of errors stay short, whatever they quote."""

import json
import time
from collections.abc import Callable

import pytest

from braidlm.errors import BraidError, ContextLengthError, one_line, quoted

HUGE = "a b'\"\\\n" * 20_000


def said(message: str) -> str:
    return str(ContextLengthError(message))


@pytest.mark.parametrize(
    "message", ["", "short", "the model's field 'x' is 5, but must be one of 'a', 'b' or \"c\"", "ü" * 200]
)
def test_short_messages_are_left_as_they_are(message: str) -> None:
    """Oracle: the message."""
    assert said(message) == message


@pytest.mark.parametrize("written", [repr, json.dumps, quoted], ids=["repr", "json", "quoted"])
@pytest.mark.parametrize("value", [HUGE, "x" * 100_000, "it's" * 30_000, '"' * 100_000, "\\" * 100_001])
def test_a_quoted_value_is_cut(value: str, written: Callable[[str], str]) -> None:
    """Oracle: the value's first 200 characters as they are written, and the sentence around it whole."""
    found = said(f"the model's field 'x' is {written(value)}, but it must be one of 'this' or 'that'")
    assert found.startswith(f"the model's field 'x' is {written(value)[:200]}")
    assert found.endswith(", but it must be one of 'this' or 'that'")
    assert len(found) < 300


@pytest.mark.parametrize("value", ["9" * 6000, "/a" * 5000, ["x"] * 10_000, {"a": "b c" * 50_000}, HUGE])
def test_whatever_is_told_is_bounded(value: object) -> None:
    """Oracle: by hand: what was wrong, which comes first, and what would be right, which comes last, are there."""
    found = said(f"the value of x is {value} but must be a number")
    assert found.startswith("the value of x is ")
    assert found.endswith(" but must be a number")
    assert len(found) <= 1010


@pytest.mark.parametrize(
    "value",
    [["x"] * 10_000, {"a b": {"c": list(range(9000))}}, [["it's", '"]"']] * 5000, {i: [i] for i in range(5000)}],
)
def test_a_list_is_cut(value: object) -> None:
    """Oracle: the list's first 200 characters as Python writes them, and the sentence around it whole."""
    found = said(f"the field [a] is {value!r}, but it must be a list [such as this one] of 'these'")
    assert found.startswith(f"the field [a] is {str(value)[:150]}")
    assert found.endswith(", but it must be a list [such as this one] of 'these'")
    assert len(found) < 350


def test_it_takes_no_time() -> None:
    """Oracle: the clock, generously: what looks like the beginning of many quotations is read once."""
    begun = time.perf_counter()
    for value in (
        "'" * 300_000,
        " '" * 150_000,
        " '\\" * 100_000,
        " \"'" * 100_000,
        " " + "\\'" * 100_000,
        "[" * 300_000,
        "[]" * 99_999,
    ):
        assert len(str(BraidError(value))) <= 1010
    assert time.perf_counter() - begun < 20


def test_one_line() -> None:
    """Oracle: by hand."""
    assert one_line(ValueError("unknown variant `\n\0`, expected\tone")) == "unknown variant `\\n\\x00`, expected\\tone"
