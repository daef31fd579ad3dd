"""Rules that begin after the reasoning."""

import numpy as np
import pytest
from numpy.typing import NDArray

from braidlm.engine import ReasoningFirst
from braidlm.engine.after_reasoning import AfterReasoning
from tests.text.made import byte_level

TOKENIZER = byte_level()
VOCAB = TOKENIZER.vocab_size
ENDS = TOKENIZER.eos_ids


def ids_of(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_bos=False)


class Exactly:
    """A rule of exactly these ids."""

    def __init__(self, ids: list[int]) -> None:
        self.left = list(ids)

    def allowed(self) -> NDArray[np.bool_]:
        return np.arange(VOCAB) == self.left[0]

    def forced(self) -> list[int]:
        return self.left

    def push(self, token: int) -> None:
        assert token == self.left.pop(0)

    def finished(self) -> bool:
        return not self.left


def made(begin: str, gap: tuple[int, ...] = ()) -> AfterReasoning:
    reasoning = ReasoningFirst(begin=tuple(ids_of(begin)), end="</think>", gap=gap)
    return AfterReasoning(reasoning, lambda: Exactly(ids_of("yes")), TOKENIZER.stream(), VOCAB, ENDS)


def allowed(constraint: AfterReasoning) -> set[int]:
    found = constraint.allowed()
    return set(range(VOCAB)) if found is None else set(np.flatnonzero(found).tolist())


@pytest.mark.parametrize("begin", ["", "<think>"])
@pytest.mark.parametrize("gap", [(), tuple(ids_of("\n"))], ids=["no gap", "gap"])
def test_reasoning_then_rule(begin: str, gap: tuple[int, ...]) -> None:
    """Oracle: the definition: the tag's tokens, anything but an end up to the closing tag, a gap, the rule."""
    constraint = made(begin, gap)
    for number, token in enumerate(ids_of(begin)):
        assert token in allowed(constraint)
        assert number == 0 or (allowed(constraint) == {token} and constraint.forced()[0] == token)
        constraint.push(token)
    for token in ids_of("a <b yes é </thin </think>"):
        assert allowed(constraint) == set(range(VOCAB)) - set(ENDS)
        assert not constraint.finished() and constraint.forced() == []
        constraint.push(token)
    assert allowed(constraint) == {ids_of("yes")[0], *gap}
    for token in [*gap, *ids_of("yes")]:
        assert token in allowed(constraint) and not constraint.finished()
        constraint.push(token)
    assert constraint.finished()


def test_the_rule_at_once() -> None:
    """Oracle: a model that does not begin to reason is held to the rule."""
    constraint = made("<think>")
    assert allowed(constraint) == {ids_of("<think>")[0], ids_of("yes")[0]}
    for token in ids_of("yes"):
        constraint.push(token)
    assert constraint.finished()
