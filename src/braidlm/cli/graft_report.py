"""`braid graft report`: the page of a graft written again."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Json, out, print_json

EXAMPLE = "Example: braid graft report runs/smollm2-hybrid"


def command(
    graft: Annotated[Path, typer.Argument(metavar="OUT", help="Directory of a finished graft.", show_default=False)],
    json: Json = False,
) -> None:
    """Write report.html of a graft again from what was measured, and print what decides; nothing is measured."""
    from ..graft.report.write import rewrite

    page, figures = rewrite(graft)
    if json:
        print_json({"page": str(page), "summary": [figure._asdict() for figure in figures]})
        return
    for figure in figures:
        out.print(f"{figure.name}: {figure.text}", markup=False, highlight=False)
    out.print(f"\n{page}", markup=False, highlight=False)
