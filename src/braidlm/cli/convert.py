"""`braid convert`: rewrite a checkpoint in another format or dtype."""

from pathlib import Path
from typing import Annotated

import typer

from ..saving import check_format
from .common import AllowPickle, Dtype, Json, ModelArgument, load_model, out, print_json, progress

EXAMPLE = "Example: braid convert smollm2-135m ./smollm2 --format hf --dtype bfloat16"


def command(
    model: ModelArgument,
    directory: Annotated[Path, typer.Argument(help="A directory that does not exist yet.", show_default=False)],
    format: Annotated[str, typer.Option(help="hf, braidlm, mamba-original or mamba2-original.")] = "hf",
    dtype: Dtype = "auto",
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Write MODEL to DIRECTORY, which appears whole or not at all."""
    check_format(format)
    language = load_model(model, dtype=dtype, allow_pickle=allow_pickle)
    with progress(f"writing {directory.name}") as step:
        language.save(directory, format, step)
    files = sorted(file.name for file in directory.iterdir())
    total = sum((directory / file).stat().st_size for file in files)
    if json:
        print_json({"directory": str(directory), "format": format, "files": files, "bytes": total})
        return
    out.print(f"{directory}: {', '.join(files)}", markup=False, highlight=False)
