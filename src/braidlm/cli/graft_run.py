"""`braid graft RECIPE.toml`: a pretrained transformer turned into a hybrid."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Threads, err, out
from .load_options import set_threads
from .training_watch import watched

if TYPE_CHECKING:
    from ..graft.probe import Loss
    from ..train.loop import Hooks, Trainer

EXAMPLE = "Example: braid graft smollm2.toml --set distil.optimizer.lr=3e-4"


def command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="TOML file of a graft.", show_default=False)],
    donor: Annotated[
        str | None,
        typer.Option(help=r"Model whose blocks are replaced. \[default: the recipe's]", show_default=False),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--out", help=r"Directory of the graft. \[default: the recipe's]", show_default=False)
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Field of RECIPE with another value; may be repeated."),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Stop after the probe, and show what each block loses.")
    ] = False,
    threads: Threads = None,
) -> None:
    """Graft the hybrid that RECIPE describes onto its donor; a graft that was stopped goes on."""
    from ..graft.recipe import read_recipe
    from ..graft.run import graft

    set_threads(threads)
    named = {"donor": donor, "run.out": target and str(Path(target).absolute())}
    every = [*(f"{name}={value}" for name, value in named.items() if value is not None), *(changes or [])]
    ended = graft(read_recipe(recipe, every), _Console(), "probe" if probe else "model")
    if ended:
        out.print("stopped; the same command goes on", markup=False, highlight=False)
        raise typer.Exit(128 + ended)


class _Console:
    """Watcher that shows a graft on the console."""

    def said(self, text: str) -> None:
        """Prints a sentence."""
        out.print(text, markup=False, highlight=False, soft_wrap=True)

    def training(self, stage: str, trainer: "Trainer") -> "AbstractContextManager[Hooks]":
        """Shows the progress of a stage."""
        self.said(f"{stage}: step {trainer.step} of {trainer.config.steps}")
        return watched(trainer)

    def probed(self, name: str, loss: "Loss") -> None:
        """Prints what a variant loses."""
        err.print(
            f"{name:12} KL {loss.divergence:.4f} nats, perplexity {loss.perplexity:+.1%}, "
            f"recall {loss.recall:+.3f} nats",
            markup=False,
            highlight=False,
        )
