"""`braid data`: documents tokenized once, for training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..system.progress_bar import progress
from ..system.setting_files import with_values
from ..train.data.recipe import Recipe
from .common import Json, out, print_json
from .options import with_options

if TYPE_CHECKING:
    from ..train.data.shards import Shards

EXAMPLE = "Example: braid data ./tokens ./books --tokenizer smollm2-135m --holdout 0.01"


@with_options({"Documents": Recipe}, defaults={"kind": "recognised"})
def command(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="New directory for the shards, or that of an interrupted run.", show_default=False
        ),
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES...",
            help="Files, directories, patterns of files; or names of datasets.",
            show_default=False,
        ),
    ],
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="MODEL|DIRECTORY",
            help="Model whose tokenizer is used, or the tokenizer's own directory.",
            show_default=False,
        ),
    ],
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes that tokenize; the result is the same for any.")
    ] = 1,
    json: Json = False,
    **given: Any,
) -> None:
    """Tokenize SOURCES into the directory OUT; started again, an interrupted run goes on."""
    from ..api.loading import read_tokenizer
    from ..train.data.build import build
    from ..train.data.recognise import recognise

    values = with_values(Recipe, given)
    if "kind" not in values:
        values["kind"] = recognise(sources, values.get("field", ""))
    if "separator" in values:
        values["separator"] = values["separator"].replace(r"\n", "\n")
    recipe = Recipe(**values)
    vocabulary = read_tokenizer(tokenizer)
    with progress("tokenizing") as step:
        shards = build(directory, sources, vocabulary, recipe, processes=processes, progress=step)
    if json:
        print_json(_facts(shards))
        return
    _print(shards)


def _facts(shards: "Shards") -> dict[str, Any]:
    parts = {"training": shards.training, "holdout": shards.holdout}
    counts = {name: {"documents": len(part), "tokens": part.tokens} for name, part in parts.items()}
    skipped = {"skipped": shards.manifest.skipped, "skips": list(shards.manifest.skips)}
    return {"directory": str(shards.directory), "shards": len(shards.manifest.shards), **counts, **skipped}


def _print(shards: "Shards") -> None:
    lines = [f"{shards.directory}: {len(shards.training):,} documents, {shards.training.tokens:,} tokens"]
    if len(shards.holdout):
        lines.append(f"held out: {len(shards.holdout):,} documents, {shards.holdout.tokens:,} tokens")
    manifest = shards.manifest
    if manifest.skipped:
        lines.append(f"skipped: {manifest.skipped:,} bad documents, first:")
        lines += [f"  {skip}" for skip in manifest.skips[:5]]
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
