"""`braid graft`: parts of trained models replaced by others that do the same at another cost."""

import typer

from . import graft_filters

app = typer.Typer(
    name="graft", help="Replace parts of trained models: long convolutions by recurrences.", no_args_is_help=True
)
app.command("filters", epilog=graft_filters.EXAMPLE)(graft_filters.command)


@app.callback()
def _group() -> None:
    """Keeps `filters` a word of the command line while it is the only one."""
