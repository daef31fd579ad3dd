"""Answers of `braid chat` that are interrupted."""

import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from braidlm.cli.chat_answer import Answers
from braidlm.generation.sampling import Sampling


class Interrupted:
    """Object whose finalizer a Ctrl-C falls into: Python drops what it raises there."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class Endless:
    """Conversation whose answer has no end, interrupted in a finalizer after three tokens."""

    splitter = None
    said = 0

    def reply(self, text: str, sampling: Sampling) -> Iterator[Any]:
        while True:
            self.said += 1
            assert self.said < 100
            yield SimpleNamespace(text="so ", finish=None)
            if self.said == 3:
                Interrupted()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_is_lost_ends_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the tokens before it, and what is said of an answer that was stopped."""
    conversation: Any = Endless()
    Answers(conversation).print_answer("Tell me.", Sampling())
    assert capsys.readouterr().out == "so so so \n" and conversation.said == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
