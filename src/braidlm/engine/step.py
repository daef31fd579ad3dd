"""One step of the engine as data: what the scheduler decides and the runner runs."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .sequence import Chunk, DecodeInput, Sequence


class Task(NamedTuple):
    """Work of a caller, to be run between two steps, and the future that waits for its result."""

    future: Future[Any]
    work: Callable[[], Any]

    def run(self) -> None:
        """Runs the work; its result, or its error, is the future's."""
        try:
            self.future.set_result(self.work())
        except BaseException as error:
            self.future.set_exception(error)


class Prefill(NamedTuple):
    """Chunk of a sequence's prompt, to be run by a prefill pass."""

    sequence: Sequence
    chunk: Chunk


@dataclass
class Step:
    """One step of the engine: a task or prefills, and the inputs of decode.

    task: work of a caller, in place of a prefill. prefills: chunks of prompts, all in one pass. starts: sequences whose
    prompts need no pass after these; they and their forks take their slots. decodes: inputs of one decode step.
    busy: whether sequences waited for their next token when the step began. suffix_tokens: tokens of prompts that
    began without a pass, among those of `decodes`.
    """

    busy: bool
    task: Task | None = None
    prefills: list[Prefill] = field(default_factory=list)
    starts: list[Sequence] = field(default_factory=list)
    decodes: list[DecodeInput] = field(default_factory=list)
    suffix_tokens: int = 0


class DecodeCapabilities(NamedTuple):
    """Capabilities of the decode step that a sequence runs in.

    max_decode_tokens: number of a prompt's tokens up to which it takes less time than a prefill pass; at least one.
    can_roll_back: whether it takes several tokens of a sequence, which can be rolled back.
    """

    max_decode_tokens: int
    can_roll_back: bool
