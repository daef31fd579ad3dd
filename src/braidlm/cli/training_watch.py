"""Display of training on the console: progress, evaluations, and what a signal does."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .common import err

if TYPE_CHECKING:
    from ..train.loop import Hooks, StepMetrics, Trainer

# Without a terminal, a line at least this many seconds after the one before.
_QUIET_S = 10.0


@contextmanager
def watched(trainer: "Trainer") -> Iterator["Hooks"]:
    """Context in which a trainer runs with these hooks: its progress is shown, and a signal ends it after a step."""
    from ..train.loop import Hooks
    from ..train.stopping import Stopping

    with _Watch(trainer) as watch, Stopping(watch.stopping) as stopping:
        yield Hooks(watch.step, watch.found, stop=lambda: stopping.signal)


class _Watch:
    """Display of a run's progress: a bar on a terminal, else a line from time to time, and evaluations and samples."""

    def __init__(self, trainer: "Trainer") -> None:
        self._steps = trainer.config.steps
        self._first = trainer.world.rank == 0
        self._in_nats = trainer.objective.in_nats
        self._bar = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"),
            TimeRemainingColumn(), console=err,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=self._steps, completed=trainer.step)
        self._told = 0.0

    def __enter__(self) -> "_Watch":
        if err.is_terminal and self._first:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def step(self, step: "StepMetrics") -> None:
        """Shows a step that was made."""
        said = f"loss {step.loss:.4f}, {step.tokens / step.seconds:,.0f} tokens/s"
        if step.skipped is not None:
            _say(f"step {step.number} was left out: {step.skipped}")
        self._bar.update(self._task, completed=step.number, description=said)
        last = step.number == self._steps
        if not err.is_terminal and (last or time.monotonic() - self._told > _QUIET_S):
            self._told = time.monotonic()
            _say(f"step {step.number} of {self._steps}: {said}")

    def found(self, step: int, found: Mapping[str, float | str]) -> None:
        """Shows evaluations and samples."""
        from ..train import report

        for name, value in found.items():
            _say(f"step {step}: {report.sentence(name, value, in_nats=self._in_nats)}")

    def stopping(self) -> None:
        """Says that a signal was noticed."""
        if self._first:
            _say("finishing this step, then storing a checkpoint; once more ends at once, without one")


def _say(text: str) -> None:
    err.print(text, markup=False, highlight=False)
