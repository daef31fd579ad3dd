"""`braid chat`: a conversation in the terminal."""

import contextlib
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..engine import Limits
from ..errors import BraidError, InputError
from ..sampling import Sampling
from ..sessions import Chats, Conversation, SessionStore
from ..text.reasoning import ReasoningSplitter, Split
from .common import (
    Adapter,
    AllowPickle,
    Deterministic,
    Device,
    Dtype,
    InitialState,
    KvDtype,
    ModelArgument,
    Ops,
    Quantize,
    Threads,
    err,
    load_model,
    size,
    with_beside,
)
from .generate import MaxTokens, MinP, Penalty, Seed, Temperature, TopK, TopP
from .session import Sessions, print_sessions, store_at

EXAMPLE = "Example: braid chat smollm2-135m"

HELP = """\
/save NAME   keep the conversation and its state      /load NAME   go on with a saved one
/fork NAME   go on in a copy of it, saved             /sessions    what is saved
/reset       start again                              /stats       tokens, speed, bytes of state
/help        this text                                /quit        leave (or Ctrl-D)
A line that ends with \\ goes on in the next line; a line of three quotation marks begins and ends a block of lines."""


def command(
    model: ModelArgument,
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None,
    session: Annotated[
        str | None, typer.Option(help="Go on with this session, or begin it; each turn is saved.", show_default=False)
    ] = None,
    sessions: Sessions = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.2,
    top_p: TopP = 0.9,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    repetition_penalty: Penalty = 1.0,
    seed: Seed = None,
    adapter: Adapter = None,
    state: InitialState = None,
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    kv_dtype: KvDtype = None,
    device: Device = "cpu",
    ops: Ops = "auto",
    threads: Threads = None,
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Talk with MODEL. Earlier turns are not read again. Commands: /save /load /fork /reset /stats /help /quit."""
    language = load_model(
        model,
        dtype=dtype,
        device=device,
        ops=ops,
        allow_pickle=allow_pickle,
        threads=threads,
        quantize=quantize,
        deterministic=deterministic,
    )
    language = with_beside(language, adapter, state)
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    with language.engine(kv_dtype, Limits(slots=1)) as engine:
        store = store_at(sessions)
        chats = Chats(language, engine, store, Path(model).name)
        Terminal(Conversation(chats, system, session), store, sampling).run()


class Terminal:
    """Reads lines, answers, and keeps the figures of the last answer."""

    def __init__(self, conversation: Conversation, store: SessionStore, sampling: Sampling) -> None:
        self._conversation = conversation
        self._store = store
        self._sampling = sampling
        self._seconds = 0.0
        self._reasoned = False  # and no content has followed yet
        self._first = 0.0

    def run(self) -> None:
        """Until the user leaves."""
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")  # gives input() history and editing
        err.print("Type a message, /help for commands, Ctrl-D to leave.", style="dim")
        for text in messages():
            try:
                if text.startswith("/"):
                    if self._command(text):
                        return
                else:
                    self._answer(text)
            except BraidError as error:
                err.print(f"braid: {error}", markup=False)

    def _command(self, text: str) -> bool:
        """Whether the user wants to leave."""
        name, _, argument = text.partition(" ")
        argument = argument.strip()
        if name in ("/quit", "/exit"):
            return True
        if name in ("/save", "/load", "/fork") and not argument:
            err.print(f"{name} needs a name", markup=False)
        elif name in ("/save", "/fork"):
            (self._conversation.save if name == "/save" else self._conversation.fork)(argument)
            err.print(f"saved as {argument}", markup=False)
        elif name == "/load":
            self._conversation.load(argument)
            err.print(f"{len(self._conversation.messages)} messages, {self._conversation.tokens} tokens")
        elif name == "/sessions":
            print_sessions(self._store.all(), err)
        elif name == "/reset":
            self._conversation.reset()
        elif name == "/stats":
            err.print(self._stats())
        elif name == "/help":
            err.print(HELP, markup=False)
        else:
            err.print(f"there is no command {name}; /help lists them", markup=False)
        return False

    def _answer(self, text: str) -> None:
        begun, self._first, self._reasoned = time.perf_counter(), 0.0, False
        splitter: ReasoningSplitter | None = None
        try:
            for token in self._conversation.reply(text, self._sampling):
                self._first = self._first or time.perf_counter() - begun
                splitter = splitter or self._conversation.splitter
                self._show(splitter.push(token.text) if splitter else Split(content=token.text))
            self._show(splitter.finish() if splitter else Split())
        except KeyboardInterrupt:
            err.print("\n(stopped)", style="dim")
        self._seconds = time.perf_counter() - begun
        typer.echo()

    def _show(self, split: Split) -> None:
        """Reasoning dimmed, and the answer below it."""
        if split.reasoning:
            typer.secho(split.reasoning, nl=False, dim=True)
            self._reasoned = True
        if split.content:
            typer.echo("\n\n" * self._reasoned + split.content, nl=False)
            self._reasoned = False

    def _stats(self) -> str:
        conversation, usage = self._conversation, self._conversation.usage
        if usage is None:
            return f"conversation: {conversation.tokens} tokens"
        speed = (conversation.made - 1) / (self._seconds - self._first) if conversation.made > 1 else 0.0
        return (
            f"conversation: {conversation.tokens} tokens, state {size(conversation.nbytes)}; last turn: {usage.cached} "
            f"prompt tokens known, {usage.replayed} read again, {usage.computed} new ({usage.why}) in "
            f"{self._first:.2f} s, {conversation.made} made at {speed:.1f} tokens/s"
        )


def messages() -> Iterator[str]:
    """Messages from standard input, until its end."""
    while True:
        try:
            text = _message()
        except EOFError:
            typer.echo()
            return
        except UnicodeDecodeError as error:
            raise InputError(f"standard input is no text in {error.encoding}: {error.reason}") from None
        except KeyboardInterrupt:
            typer.echo()
            continue
        if text.strip():
            yield text.strip()


def _message() -> str:
    line = input("> ")
    if line.strip() == '"""':
        lines: list[str] = []
        while (line := input(". ")).strip() != '"""':
            lines.append(line)
        return "\n".join(lines)
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input(". "))
    return "\n".join(lines)
