"""`braid train`: a model trained from scratch, or further."""

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .common import Threads, out
from .load_options import set_threads
from .training_watch import watched

if TYPE_CHECKING:
    from ..adapters import Kind
    from ..train.config import Config
    from ..train.loop import Trainer
    from ..train.run import Prepared
    from ..train.world import World

EXAMPLE = "Example: braid train small.toml --set optimizer.lr=1e-3 --set run.out=runs/small"


def command(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file of a run, or its directory.", show_default=False)
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Field of CONFIG with another value; may be repeated."),
    ] = None,
    extra_steps: Annotated[
        int, typer.Option(min=0, help="Number of steps added to those planned, like the last ones.")
    ] = 0,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Directory to write the last checkpoint's model or adapter to, instead of training.",
            show_default=False,
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            min=1, help=r"Step of the checkpoint that --export writes. \[default: the last one]", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device to train on: cpu or cuda.")] = "cpu",
    threads: Threads = None,
) -> None:
    """Train the model that CONFIG describes; a run that was stopped goes on. Several processes: torchrun -m braidlm."""
    from ..train.plan import read_any
    from ..train.world import join

    set_threads(threads)
    asked = read_any(config, changes or [])
    if export is not None:
        _export(asked, export, step, extra_steps)
        return
    if step is not None:
        raise typer.BadParameter("it names a checkpoint for --export DIR", param_hint="--step")
    carry_out(asked, join(device, asked.run.context_parallel), extra_steps)


def carry_out(asked: "Config", world: "World", extra_steps: int = 0) -> None:
    """Trains a whole run, or the rest of one, with its progress; exit code 128 + a signal that stopped it."""
    from ..train import results
    from ..train import run as runs

    prepared = runs.prepare(asked, world, extra_steps)
    first = world.rank == 0
    with results.alone(Path(asked.run.out)) if first else nullcontext():
        if first:
            _tell_begin(prepared.trainer)
        ended = _train(prepared)
        if not ended:
            for place in runs.finish(prepared, world):
                if first:
                    out.print(str(place), markup=False, highlight=False)
    world.leave()
    if ended:
        if first:
            _tell_end(prepared.trainer, extra_steps)
        raise typer.Exit(128 + ended)


def _train(prepared: "Prepared") -> int:
    from ..train import run as runs

    with watched(prepared.trainer) as hooks:
        return runs.train(prepared, hooks)


def _export(asked: "Config", target: Path, step: int | None, extra_steps: int) -> None:
    from ..train import export as exporting

    if extra_steps:
        raise typer.BadParameter("steps are added by a run, not by --export", param_hint="--extra-steps")
    found = exporting.export(asked, target, step)
    out.print(f"{target}: the run in {asked.run.out} after step {found}", markup=False, highlight=False)


def _tell_begin(trainer: "Trainer") -> None:
    from ..train import checkpoints
    from ..train.training_log import FILE

    steps, directory = trainer.config.steps, trainer.directory
    if trainer.step:
        said = f"resumed at step {trainer.step} of {steps}, from {checkpoints.latest(directory)}"
        said += "" if trainer.step < steps else "; all steps are made, --extra-steps STEPS adds some"
    else:
        said = f"starting at step 0 of {steps}: {directory} holds no checkpoint to go on from"
        if (directory.parent / FILE).exists():
            said += "; the log of earlier steps is kept beside the new one"
    out.print(said, markup=False, highlight=False)
    if trainer.adapters is not None:
        out.print(_table(trainer.adapters.coverage()))


def _tell_end(trainer: "Trainer", extra_steps: int) -> None:
    from ..train import checkpoints

    config, place = trainer.config, checkpoints.latest(trainer.directory)
    begun = trainer.step > config.steps - extra_steps
    out.print(f"stopped at step {trainer.step} of {config.steps}; checkpoint: {place}", markup=False, highlight=False)
    out.print(f"to go on: {_command(keep_extra=not begun)}", markup=False, highlight=False)


def _command(*, keep_extra: bool) -> str:
    """Command line that goes on with the run: the one typed, without added steps that are planned by now."""
    words, kept = iter(sys.argv[1:]), list[str]()
    for word in words:
        if word == "--extra-steps" and not keep_extra:
            next(words, None)
        elif keep_extra or not word.startswith("--extra-steps="):
            kept.append(word)
    processes = os.environ.get("WORLD_SIZE")
    start = ["braid"] if processes is None else ["torchrun", "--nproc_per_node", processes, "-m", "braidlm"]
    return shlex.join([*start, *kept])


def _table(coverage: "Sequence[Kind]") -> Table:
    table = Table("adapted", "layers", "trained", "of", "share of compute", box=None, padding=(0, 2, 0, 0))
    for kind in coverage:
        table.add_row(kind.name, str(kind.layers), f"{kind.trained:,}", f"{kind.whole:,}", f"{kind.share:.1%}")
    trained, share = sum(kind.trained for kind in coverage), sum(kind.share for kind in coverage)
    table.add_row("all", "", f"{trained:,}", "", f"{share:.1%}")
    return table
