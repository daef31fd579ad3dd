"""`braid train`: a model from nothing, or further."""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..ops.threads import limit_to_share
from ..train import run as runs
from ..train.config import read
from ..train.loop import Step, Trainer
from ..train.world import join
from .common import Threads, err, out

EXAMPLE = "Example: braid train small.toml --set optimizer.lr=1e-3 --set run.out=runs/small"

# Without a terminal, a line at least this many seconds after the one before.
_QUIET_S = 10.0


def command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.", show_default=False)],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of it; may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Threads = None,
) -> None:
    """Train the model that CONFIG describes; a run that was stopped goes on. Several processes: torchrun -m braidlm."""
    limit_to_share()
    if threads is not None:
        torch.set_num_threads(threads)
    asked = read(config, changes or [])
    world = join(device)
    prepared = runs.prepare(asked, world)
    trainer = prepared.trainer
    if trainer.step and world.rank == 0:
        out.print(f"going on after step {trainer.step} of {asked.steps}", highlight=False)
    with _Watch(trainer) as watch:
        runs.train(prepared, watch)
    place = runs.finish(prepared, world)
    if world.rank == 0:
        out.print(f"{place}: the model, its card and its curve", markup=False, highlight=False)


class _Watch:
    """Shows steps as they are made: a bar on a terminal, else a line from time to time."""

    def __init__(self, trainer: Trainer) -> None:
        self._steps = trainer.config.steps
        self._bar = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"),
            TimeRemainingColumn(), console=err,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=self._steps, completed=trainer.step)
        self._told = 0.0

    def __enter__(self) -> "_Watch":
        if err.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, step: Step) -> None:
        said = f"loss {step.loss:.4f}, {step.tokens / step.seconds:,.0f} tokens/s"
        if step.skipped is not None:
            err.print(f"step {step.number} was left out: {step.skipped}", markup=False, highlight=False)
        self._bar.update(self._task, completed=step.number, description=said)
        last = step.number == self._steps
        if not err.is_terminal and (last or time.monotonic() - self._told > _QUIET_S):
            self._told = time.monotonic()
            err.print(f"step {step.number} of {self._steps}: {said}", markup=False, highlight=False)
