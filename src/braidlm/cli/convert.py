"""`braid convert`: rewrite a checkpoint in another format or dtype."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..gguf_export import export_gguf
from ..saving import check_format
from .common import AllowPickle, Dtype, Json, ModelArgument, load_model, out, print_json, progress

EXAMPLE = "Example: braid convert smollm2-135m ./smollm2 --format hf --dtype bfloat16"


def command(
    model: ModelArgument,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY|FILE.gguf", help="A directory or GGUF file that does not exist yet.", show_default=False
        ),
    ],
    format: Annotated[str, typer.Option(help="Of a directory: hf, braidlm, mamba-original or mamba2-original.")] = "hf",
    dtype: Dtype = "auto",
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Write MODEL to a directory or a GGUF file (without a tokenizer), which appears whole or not at all."""
    single = target.suffix == ".gguf"
    if not single:
        check_format(format)
    elif target.exists():
        raise InputError(f"{target} exists already; choose another name or remove it first")
    language = load_model(model, dtype=dtype, allow_pickle=allow_pickle)
    with progress(f"writing {target.name}") as step:
        if single:
            export_gguf(language.network, target, progress=step)
        else:
            language.save(target, format, step)
    _report(target, "gguf" if single else format, json)


def _report(target: Path, format: str, json: bool) -> None:
    place = target if target.is_dir() else target.parent
    files = sorted(file.name for file in target.iterdir()) if target.is_dir() else [target.name]
    total = sum((place / file).stat().st_size for file in files)
    if json:
        print_json({"directory": str(place), "format": format, "files": files, "bytes": total})
        return
    out.print(f"{place}: {', '.join(files)}", markup=False, highlight=False)
