"""`braid train`: a model from nothing, or further."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..adapters import Kind
from ..ops.threads import limit_to_share
from ..train import run as runs
from ..train.config import Config, read
from ..train.loop import Step, Trainer
from ..train.world import World, join
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
    world = join(device, asked.run.sequence)
    carry_out(asked, world)


def carry_out(asked: Config, world: World) -> None:
    """A whole run, or the rest of one, with its progress."""
    prepared = runs.prepare(asked, world)
    trainer, first = prepared.trainer, world.rank == 0
    if trainer.step and first:
        out.print(f"going on after step {trainer.step} of {asked.steps}", highlight=False)
    if trainer.adapters is not None and first:
        out.print(_table(trainer.adapters.coverage()))
    with _Watch(trainer) as watch:
        runs.train(prepared, watch)
    for place in runs.finish(prepared, world):
        if first:
            out.print(str(place), markup=False, highlight=False)
    world.leave()


def _table(coverage: Sequence[Kind]) -> Table:
    table = Table("adapted", "layers", "trained", "of", "share of compute", box=None, padding=(0, 2, 0, 0))
    for kind in coverage:
        table.add_row(kind.name, str(kind.layers), f"{kind.trained:,}", f"{kind.whole:,}", f"{kind.share:.1%}")
    trained, share = sum(kind.trained for kind in coverage), sum(kind.share for kind in coverage)
    table.add_row("all", "", f"{trained:,}", "", f"{share:.1%}")
    return table


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
