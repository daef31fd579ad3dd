"""Answers of `braid chat` as they are printed, and the usage of the last one."""

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

import typer

from ..generation.sampling import Sampling
from ..sessions import Conversation
from ..system.units import size
from ..text.reasoning import ReasoningSplitter, Split
from .common import err


def say(text: str) -> None:
    """Prints words of the program, which are not the model's."""
    err.print(text, style="dim", markup=False, highlight=False)


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Signals of Ctrl-C so far: each raises `KeyboardInterrupt` too, which is lost where a finalizer happens to run."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # another's, which stays
        yield seen
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Answers:
    """Printer of a conversation's answers."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._seconds = 0.0
        self._first = 0.0
        self._reasoned = False  # and no content has followed yet

    def print_answer(self, text: str, sampling: Sampling) -> None:
        """Prints the answer to `text` as it comes; Ctrl-C ends it, and a bound that cut it is told."""
        begun, self._first, self._reasoned = time.perf_counter(), 0.0, False
        splitter: ReasoningSplitter | None = None
        finish: str | None = None
        try:
            with _interrupts() as interrupts, contextlib.closing(self._conversation.reply(text, sampling)) as tokens:
                for token in tokens:
                    if interrupts:
                        raise KeyboardInterrupt
                    self._first = self._first or time.perf_counter() - begun
                    splitter = splitter or self._conversation.splitter
                    self._show(splitter.push(token.text) if splitter else Split(content=token.text))
                    finish = token.finish
            self._show(splitter.finish() if splitter else Split())
        except KeyboardInterrupt:
            say("\n(stopped)")
        self._seconds = time.perf_counter() - begun
        typer.echo()
        if finish == "length":
            self._say_cut(sampling.max_tokens)

    def _say_cut(self, limit: int) -> None:
        """Prints that the answer is not whole, and how to have the rest."""
        if self._conversation.made < limit:
            say(f"(cut: the model takes no more than these {self._conversation.tokens} tokens; /reset begins anew)")
        else:
            say(f'(cut at {limit} tokens: say "go on" for the rest, or /limit N for longer answers)')

    def _show(self, split: Split) -> None:
        """Reasoning dimmed, and the answer below it."""
        if split.reasoning:
            typer.secho(split.reasoning, nl=False, dim=True)
            self._reasoned = True
        if split.content:
            typer.echo("\n\n" * self._reasoned + split.content, nl=False)
            self._reasoned = False

    def stats(self) -> str:
        """Size of the conversation, and usage of the last answer."""
        conversation, usage = self._conversation, self._conversation.usage
        if usage is None:
            return f"conversation: {conversation.tokens} tokens"
        speed = (conversation.made - 1) / (self._seconds - self._first) if conversation.made > 1 else 0.0
        return (
            f"conversation: {conversation.tokens} tokens, state {size(conversation.nbytes)}; last turn: {usage.cached} "
            f"prompt tokens cached, {usage.recomputed} recomputed, {usage.computed} computed ({usage.why}) in "
            f"{self._first:.2f} s, {conversation.made} generated at {speed:.1f} tokens/s"
        )
