"""`braid graft`: parts of trained models replaced by others that do the same at another cost."""

from typing import Any

import typer
import typer.core

from . import graft_filters, graft_report, graft_run


class _RecipeFirst(typer.core.TyperGroup):
    """Group of commands in which anything else than the name of one is a recipe to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = [_RUN, *args]
        return super().parse_args(ctx, args)


_RUN = "run"
app = typer.Typer(
    name="graft",
    cls=_RecipeFirst,
    help="Turn a pretrained transformer into a hybrid, by a recipe; or long convolutions into recurrences.",
    no_args_is_help=True,
)
app.command(_RUN, epilog=graft_run.EXAMPLE)(graft_run.command)
app.command("report", epilog=graft_report.EXAMPLE)(graft_report.command)
app.command("filters", epilog=graft_filters.EXAMPLE)(graft_filters.command)
