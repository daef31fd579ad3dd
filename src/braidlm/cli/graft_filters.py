"""`braid graft filters`: long convolutions turned into recurrences of a chosen order."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..errors import InputError
from ..system.progress_bar import progress
from .common import Dtype, Json, Threads, out, print_json
from .load_options import set_threads

if TYPE_CHECKING:
    from ..graft.filters.distill import Settings

EXAMPLE = "Example: braid graft filters runs/hyena ./hyena-16 --order 16"


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Run, model with Hyena blocks, or file of filters: .npy, .safetensors (explicit or implicit).",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="New directory of a model, or new .safetensors file of modes.", show_default=False
        ),
    ],
    order: Annotated[
        str, typer.Option(metavar="N|auto", help="Number of modes of a filter; auto: the fewest within --tolerance.")
    ] = "auto",
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest relative error of a filter that --order auto allows.")
    ] = 1e-3,
    length: Annotated[
        int | None,
        typer.Option(min=6, help=r"Number of positions that modes are fitted to. \[default: all]", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Maximum number of refinement steps of a filter.")] = 50,
    real: Annotated[bool, typer.Option("--real", help="Real poles only, as symmetric systems have them.")] = False,
    window_shift: Annotated[
        float | None,
        typer.Option(
            help="Number added to the windows of published implicit filters, which their files do not have.",
            show_default=False,
        ),
    ] = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Fit modes to the long convolutions of SOURCE, and write a model that decodes in constant memory, or the modes."""
    settings = _settings(order, tolerance, steps, real=real)
    set_threads(threads)
    from ..graft.filters import report
    from ..graft.filters.distill import distill
    from ..graft.filters.sources import open_source

    opened = open_source(source, target, length=length, shift=window_shift, dtype=dtype)
    with progress("fitting") as step:
        layers = distill(opened.filters, settings, step)
    facts = report.facts(source, opened.kind, layers, settings)
    opened.write(target, {name: layer.modes for name, layer in layers.items()}, facts)
    if json:
        print_json({"target": str(target), **facts})
        return
    out.print(f"{source}: {opened.kind}", markup=False, highlight=False)
    out.print("\nlargest relative Hankel singular value of the states beyond an order", highlight=False)
    out.print(_table(*report.hankel_rows(facts)))
    out.print("\nrelative errors: of a layer, and of its filters", highlight=False)
    out.print(_table(*report.error_rows(facts)))
    out.print(f"\n{target}", markup=False, highlight=False)


def _settings(order: str, tolerance: float, steps: int, *, real: bool) -> "Settings":
    from ..graft.filters.distill import Settings

    if order == "auto":
        return Settings(None, tolerance, steps, real)
    if not (order.isascii() and order.isdigit() and int(order)):
        raise InputError(f"--order is {order!r}, but must be a number of modes from 1, or auto")
    return Settings(int(order), tolerance, steps, real)


def _table(heads: list[str], rows: list[list[str]]) -> Table:
    table: Any = Table(*heads, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    return table
