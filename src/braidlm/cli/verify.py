"""`braid verify`: prove on a checkpoint that every way of running it agrees."""

from typing import Annotated

import typer
from rich.table import Table

from .common import (
    AllowPickle,
    Deterministic,
    Device,
    Dtype,
    Json,
    KvDtype,
    ModelArgument,
    Ops,
    Quantize,
    Threads,
    load_model,
    out,
    print_json,
)

EXAMPLE = "Example: braid verify smollm2-135m --length 64"


def command(
    model: ModelArgument,
    length: Annotated[int, typer.Option(help="Tokens of the random prompt.")] = 100,
    seed: Annotated[int, typer.Option(help="Which random prompt.")] = 0,
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    kv_dtype: KvDtype = None,
    device: Device = "cpu",
    ops: Ops = "auto",
    threads: Threads = None,
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Run MODEL whole, in chunks, token by token, ragged, forked and reloaded; exit 1 if any differs."""
    from ..bench.verify import verify

    language = load_model(
        model,
        dtype=dtype,
        device=device,
        ops=ops,
        allow_pickle=allow_pickle,
        threads=threads,
        quantize=quantize,
        deterministic=deterministic,
    )
    checks = verify(language, length, seed, kv_dtype)
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
