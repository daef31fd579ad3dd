"""`braid data`: documents tokenized once, for training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..system.progress_bar import progress
from ..train.data.recipe import Kind, OnBad, Recipe
from .common import Json, out, print_json

if TYPE_CHECKING:
    from ..train.data.shards import Shards

EXAMPLE = "Example: braid data ./tokens ./books --tokenizer smollm2-135m --holdout 0.01"


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
    kind: Annotated[
        Kind | None,
        typer.Option(
            help=r"Kind of the sources: text, jsonl, parquet, chat or dataset. \[default: recognised]",
            show_default=False,
        ),
    ] = None,
    field: Annotated[
        str,
        typer.Option(
            help=r"Field or column that holds a document. \[default: text, or messages of a chat]", show_default=False
        ),
    ] = "",
    separator: Annotated[
        str | None,
        typer.Option(
            help=r"Text between two documents of a file; \n is a line end. \[default: one document a file]",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN", help=r"Control token that ends a document. \[default: the tokenizer's]", show_default=False
        ),
    ] = None,
    holdout: Annotated[
        float, typer.Option(min=0, help="Held-out documents, for evaluation: a share below 1, or their number.")
    ] = 0,
    on_bad: Annotated[
        OnBad, typer.Option(help="What a bad document does: error ends the run, skip leaves it out and counts it.")
    ] = "error",
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes that tokenize; the result is the same for any.")
    ] = 1,
    split: Annotated[str, typer.Option(help="Split of a dataset.")] = "train",
    subset: Annotated[
        str | None,
        typer.Option(help=r"Subset (configuration) of a dataset. \[default: its only one]", show_default=False),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Streaming of a dataset: it is read while it is downloaded.")
    ] = False,
    json: Json = False,
) -> None:
    """Tokenize SOURCES into the directory OUT; started again, an interrupted run goes on."""
    from ..api.loading import read_tokenizer
    from ..train.data.build import build
    from ..train.data.recognise import recognise

    recipe = Recipe(
        kind=kind or recognise(sources, field),
        field=field,
        separator=None if separator is None else separator.replace(r"\n", "\n"),
        end=end,
        on_bad=on_bad,
        holdout=holdout,
        split=split,
        subset=subset,
        streamed=stream,
    )
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
