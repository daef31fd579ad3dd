"""`braid data`: tokenize texts once, for training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..train.data.recipe import Kind, OnBad, Recipe
from .common import Json, out, print_json, progress

if TYPE_CHECKING:
    from ..train.data.shards import Shards

EXAMPLE = "Example: braid data ./tokens ./books --tokenizer smollm2-135m --holdout 0.01"


def command(
    directory: Annotated[
        Path, typer.Argument(metavar="OUT", help="A new directory, or an interrupted run's.", show_default=False)
    ],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCES...", help="Files, directories, patterns; or datasets.", show_default=False),
    ],
    tokenizer: Annotated[
        str, typer.Option(metavar="MODEL|DIRECTORY", help="The model's, or its own directory.", show_default=False)
    ],
    kind: Annotated[
        Kind | None,
        typer.Option(help="Of the sources: text, jsonl, parquet, chat or dataset; told by them.", show_default=False),
    ] = None,
    field: Annotated[
        str, typer.Option(help="The field or column of a document (text; of chat: messages).", show_default=False)
    ] = "",
    separator: Annotated[
        str | None,
        typer.Option(help=r"What stands between documents in a text file; \n is a line end.", show_default=False),
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="Ends a document, if not the model's own.", show_default=False)
    ] = None,
    holdout: Annotated[float, typer.Option(min=0, help="A share, or a number, of documents not to train on.")] = 0,
    on_bad: Annotated[OnBad, typer.Option(help="Bad documents: error, or skip (they are counted).")] = "error",
    processes: Annotated[int, typer.Option(min=1, help="Processes that tokenize; the result is the same.")] = 1,
    part: Annotated[str, typer.Option(help='Of a dataset (its "split").')] = "train",
    subset: Annotated[
        str | None, typer.Option(help="Of a dataset (its configuration's name).", show_default=False)
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Read a dataset while it is downloaded.")] = False,
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
        part=part,
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
    parts = {"training": shards.training, "held_out": shards.held_out}
    counts = {name: {"documents": len(part), "tokens": part.tokens} for name, part in parts.items()}
    skipped = {"skipped": shards.manifest.skipped, "skips": list(shards.manifest.skips)}
    return {"directory": str(shards.directory), "shards": len(shards.manifest.shards), **counts, **skipped}


def _print(shards: "Shards") -> None:
    lines = [f"{shards.directory}: {len(shards.training):,} documents, {shards.training.tokens:,} tokens"]
    if len(shards.held_out):
        lines.append(f"held out: {len(shards.held_out):,} documents, {shards.held_out.tokens:,} tokens")
    manifest = shards.manifest
    if manifest.skipped:
        lines.append(f"skipped: {manifest.skipped:,} bad documents, first:")
        lines += [f"  {skip}" for skip in manifest.skips[:5]]
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
