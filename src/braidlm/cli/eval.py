"""`braid eval`: what a model predicts, recalls and writes, without downloads."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..system.pictures import check_picture
from ..system.progress_bar import progress
from ..system.setting_files import with_values
from . import eval_length
from .common import Json, ModelArgument, out, print_json, read_text
from .eval_tables import (
    difference_line,
    generation_rows,
    generation_table,
    heat_map,
    plain_table,
    print_csv,
    recall_rows,
)
from .lists import names_of, numbers_of
from .load_options import LoadOptions
from .options import with_options

if TYPE_CHECKING:
    from ..api.language_model import LanguageModel
    from ..eval.generation import GenerationReport
    from ..eval.grid import Grid

EXAMPLE = "Example: braid eval recall smollm2-135m --tasks needle --lengths 256,1024"

app = typer.Typer(
    name="eval", help="Measure what a model predicts, recalls and writes, without downloads.", no_args_is_help=True
)

Csv = Annotated[bool, typer.Option("--csv", help="Print rows of CSV instead of text.")]
Seed = Annotated[int, typer.Option(help="Seed of the items.")]
Compare = Annotated[
    str | None,
    typer.Option(
        metavar="OTHER",
        help="Another model on the same items, or the same one in full: --quantize and --kv-dtype are for MODEL alone.",
        show_default=False,
    ),
]


@app.command("recall", epilog=EXAMPLE)
@with_options({"Model": LoadOptions}, without=("deterministic",))
def recall(
    model: ModelArgument,
    tasks: Annotated[str, typer.Option(help="Tasks, separated by commas, or all.")] = "needle,phonebook",
    lengths: Annotated[str, typer.Option(help="Numbers of tokens of a haystack with its question.")] = "256,1024",
    depths: Annotated[str, typer.Option(help="Depths of answers, from 0 (beginning) to 1.")] = "0,0.25,0.5,0.75,1",
    haystacks: Annotated[int, typer.Option(min=1, help="Number of haystacks for each task and length.")] = 5,
    seed: Seed = 0,
    compare: Compare = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Heat map to draw: .png, .svg or .pdf.", show_default=False)
    ] = None,
    json: Json = False,
    csv: Csv = False,
    **given: Any,
) -> None:
    """Ask MODEL for what stands in long texts: each text is read once, whatever the number of questions."""
    from ..eval import heat_map as pictures
    from ..eval.comparison import require_same_tokens
    from ..eval.grid import grid_items, recall_grid
    from ..eval.item_maker import ItemMaker
    from ..eval.tasks import TASKS, task_called

    names = list(TASKS) if tasks == "all" else names_of(tasks, "--tasks")
    for name in names:
        task_called(name)
    sizes, places = numbers_of(lengths, "--lengths", int), numbers_of(depths, "--depths", float)
    if plot is not None:
        check_picture(plot, "the heat map")
    models = _models(model, compare, given)
    first, *others = (language for language, _ in models.values())
    for other in others:
        require_same_tokens(first.tokenizer, other.tokenizer)
    maker = ItemMaker(first.tokenizer, min(language.spec.vocab for language, _ in models.values()))
    items = grid_items(maker, names, sizes, haystacks, depths=places, seed=seed)
    grids: dict[str, Grid] = {}
    for name, (language, kv_dtype) in models.items():
        with progress(f"reading haystacks, {name}") as step:
            grids[name] = recall_grid(language, items, step, kv_dtype=kv_dtype)
    if plot is not None:
        pictures.draw({name: grid.cells for name, grid in grids.items()}, plot)
    if json:
        print_json({"seed": seed, "haystacks": haystacks, "models": [_grid_facts(*one) for one in grids.items()]})
    elif csv:
        print_csv(row for name, grid in grids.items() for row in recall_rows(name, grid))
    else:
        _show_grids(names, grids)


def _grid_facts(name: str, grid: "Grid") -> dict[str, Any]:
    return {"model": name, "computed": grid.computed, "cells": recall_rows(name, grid)}


def _show_grids(tasks: list[str], grids: Mapping[str, "Grid"]) -> None:
    from ..eval.tasks import TASKS

    for task in tasks:
        cells = {name: [cell for cell in grid.cells if cell.task == task] for name, grid in grids.items()}
        out.print(heat_map(task, TASKS[task].summary, cells))
        out.print()
    for name, grid in grids.items():
        out.print(f"{name}: {len(grid.answers)} questions, {grid.computed} tokens run", style="dim", markup=False)
    _show_difference({name: [one.exact for one in grid.answers] for name, grid in grids.items()}, "exact answers")


@app.command("perplexity", epilog="Example: braid eval perplexity smollm2-135m book.txt --length 2048")
@with_options({"Model": LoadOptions}, without=("deterministic",))
def perplexity(
    model: ModelArgument,
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="A text in UTF-8.", show_default=False)],
    length: Annotated[
        int | None,
        typer.Option(min=2, help=r"Tokens of each sequence that the text is cut into. \[default: at most 1024]"),
    ] = None,
    tokens: Annotated[int, typer.Option(min=2, help="Maximum number of tokens of the text.")] = 16384,
    compare: Compare = None,
    json: Json = False,
    csv: Csv = False,
    **given: Any,
) -> None:
    """Measure how well MODEL predicts TEXT, by position: nats a token, perplexity, bits a byte.

    With --compare also how far it is from OTHER: divergence of next tokens, and how often both find the same one most
    likely.
    """
    from ..eval.divergence import divergence
    from ..eval.likelihood import likelihood, text_bytes

    written = read_text(text)
    (name, (language, kv_dtype)), *others = _models(model, compare, given).items()
    sequences = _sequences(language, text, written, length, tokens)
    with progress("reading the text") as step:
        if compare is None:
            found: Any = likelihood(language, sequences, step, kv_dtype=kv_dtype)
        else:
            found = divergence(language, others[0][1][0], sequences, step, kv_dtype=kv_dtype)
    rows = [{"positions": f"{part.first}-{part.last}"} | part._asdict() for part in (*found.buckets, found.whole)]
    facts: dict[str, Any] = {"model": name, "text": str(text), "length": max(map(len, sequences))}
    if compare is None:
        assert language.tokenizer is not None
        facts["bits_per_byte"] = found.bits_per_byte(text_bytes(language.tokenizer, sequences))
    else:
        facts["compare"] = others[0][0]
    if json:
        print_json(facts | {"whole": found.whole._asdict(), "buckets": [part._asdict() for part in found.buckets]})
    elif csv:
        print_csv(rows)
    else:
        _show_positions(rows, facts)


def _sequences(language: "LanguageModel", file: Path, text: str, length: int | None, tokens: int) -> list[Any]:
    """The text's tokens cut into sequences; `InputError` if it is shorter than the length that was asked for."""
    from ..eval.sequences import WINDOW, windows

    ids = language.encode(text) if text else []
    if length is not None and min(len(ids), tokens) < length:
        short = f"{file} has {len(ids)} tokens" if len(ids) < length else f"--tokens takes {tokens} tokens"
        raise InputError(f"{short}, but --length asks for sequences of {length}; give more text or a smaller length")
    return windows(ids, tokens, length or min(WINDOW, language.spec.max_positions or WINDOW))


def _show_positions(rows: list[dict[str, Any]], facts: Mapping[str, Any]) -> None:
    names = [name for name in rows[0] if name not in ("first", "last")]
    table = plain_table(*(name.replace("_", " ") for name in names))
    for row in rows:
        table.add_row(*(f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in names))
    out.print(table)
    if "bits_per_byte" in facts:
        out.print(f"{facts['bits_per_byte']:.4f} bits a byte", highlight=False)
    else:
        out.print(f"reference: {facts['compare']}", style="dim", markup=False, highlight=False)


app.command("length", epilog=eval_length.EXAMPLE)(eval_length.command)


@app.command("generation", epilog="Example: braid eval generation smollm2-135m --prompts 32")
@with_options({"Model": LoadOptions}, without=("deterministic", "kv_dtype"))
def generation(
    model: ModelArgument,
    prompts: Annotated[int, typer.Option(min=1, help="Number of prompts.")] = 60,
    max_tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens of an answer.")] = 128,
    seed: Seed = 0,
    compare: Compare = None,
    json: Json = False,
    csv: Csv = False,
    **given: Any,
) -> None:
    """Let MODEL answer prompts whose answers can be checked: rules of form, and short questions."""
    from ..eval.generation import generation as answered
    from ..eval.generation import prompts as made

    reports: dict[str, GenerationReport] = {}
    for name, (language, _) in _models(model, compare, given).items():
        with progress(f"answering, {name}") as step:
            reports[name] = answered(language, made(prompts, seed), step, max_tokens=max_tokens)
    if json:
        facts = [
            {"model": name, "scores": generation_rows(name, report), "answers": [a._asdict() for a in report.answers]}
            for name, report in reports.items()
        ]
        print_json({"seed": seed, "models": facts})
    elif csv:
        print_csv(row for name, report in reports.items() for row in generation_rows(name, report))
    else:
        out.print(generation_table(reports))
        passed = {name: [one.passed for one in report.answers] for name, report in reports.items()}
        _show_difference(passed, "answers that keep their rule")


def _models(model: str, compare: str | None, given: Mapping[str, Any]) -> dict[str, tuple["LanguageModel", str | None]]:
    """The one or two models by name, each with the dtype of its KV cache."""
    loading = LoadOptions(**with_values(LoadOptions, given))
    changes = [value for value in (loading.quantize, loading.kv_dtype and f"{loading.kv_dtype} KV cache") if value]
    name = f"{model} ({', '.join(changes)})" if changes else model
    if compare == name:
        raise InputError(f"--compare {compare} is MODEL itself; give another model, or --quantize or --kv-dtype")
    found: dict[str, tuple[LanguageModel, str | None]] = {name: (loading.load(model), loading.kv_dtype)}
    if compare is not None:
        found[compare] = replace(loading, quantize=None, kv_dtype=None).load(compare), None
    return found


def _show_difference(successes: Mapping[str, list[bool]], what: str) -> None:
    """One line on how far two models are apart, if there are two."""
    from ..eval.scores import paired

    if len(successes) == 2:
        (first, ours), (second, theirs) = successes.items()
        out.print(difference_line(first, second, paired(ours, theirs), what), highlight=False, markup=False)
