"""`braid verify`: prove on a checkpoint that every way of running it agrees."""

from typing import Annotated, Any

import typer
from rich.table import Table

from ..system.setting_files import with_values
from .common import Json, ModelArgument, out, print_json
from .load_options import LoadOptions
from .options import with_options

EXAMPLE = "Example: braid verify smollm2-135m --length 64"


@with_options({"Model": LoadOptions})
def command(
    model: ModelArgument,
    length: Annotated[int, typer.Option(help="Length of the random prompt in tokens.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the random prompt.")] = 0,
    json: Json = False,
    **given: Any,
) -> None:
    """Run MODEL whole, in chunks, token by token, ragged, forked and reloaded; exit 1 if any differs."""
    from ..bench.verify import verify

    loading = LoadOptions(**with_values(LoadOptions, given))
    checks = verify(loading.load(model), length, seed, loading.kv_dtype)
    passed = all(check.passed for check in checks)
    if json:
        print_json({"passed": passed, "checks": [check._asdict() | {"passed": check.passed} for check in checks]})
    else:
        table = Table("against the whole sequence", "largest difference", "allowed", "", box=None, padding=(0, 2, 0, 0))
        for check in checks:
            table.add_row(
                check.name, f"{check.error:.1e}", f"{check.tolerance:.0e}", "ok" if check.passed else "FAILED"
            )
        out.print(table)
        out.print("differences are relative to the largest absolute logit", style="dim")
    if not passed:
        raise typer.Exit(1)
