"""`braid eval length`: up to how many tokens a model is usable."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..system.progress_bar import progress
from ..system.setting_files import with_values
from .common import Json, ModelArgument, out, print_json, read_text
from .eval_tables import plain_table, print_csv
from .lists import names_of, numbers_of
from .load_options import LoadOptions
from .options import with_options

if TYPE_CHECKING:
    from ..api.language_model import LanguageModel
    from ..eval.usable_length import LengthReport

EXAMPLE = "Example: braid eval length ./model book.txt --lengths 512,1024,2048,4096 --write"


@with_options({"Model": LoadOptions}, without=("deterministic",))
def command(
    model: ModelArgument,
    texts: Annotated[
        list[Path], typer.Argument(metavar="TEXT...", help="Long texts in UTF-8, a file each.", show_default=False)
    ],
    lengths: Annotated[str, typer.Option(help="Numbers of tokens at which is measured.")] = "256,512,1024,2048",
    tasks: Annotated[str, typer.Option(help="Recall tasks, separated by commas.")] = "needle",
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="Rise of perplexity over its best before that counts as none; 0.1 is 10%."),
    ] = 0.1,
    recall_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of its best before that recall must keep.")
    ] = 0.8,
    haystacks: Annotated[int, typer.Option(min=1, help="Number of haystacks for each task and length.")] = 5,
    tokens: Annotated[int, typer.Option(min=2, help="Maximum number of tokens of each text.")] = 65536,
    seed: Annotated[int, typer.Option(help="Seed of the haystacks.")] = 0,
    write: Annotated[
        bool, typer.Option("--write", help="Write the result into MODEL, a directory: its metadata and its README.md.")
    ] = False,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print rows of CSV instead of text.")] = False,
    **given: Any,
) -> None:
    """Find up to how many tokens MODEL is usable: where its perplexity by position rises, or its recall falls.

    With --write, loading the model knows it: generating, chatting and serving beyond say so once.
    """
    from ..eval import length_card
    from ..eval.grid import grid_items
    from ..eval.item_maker import ItemMaker
    from ..eval.tasks import task_called
    from ..eval.usable_length import Criteria, increasing, measure_lengths, usable_length

    sizes = increasing(numbers_of(lengths, "--lengths", int))
    names = names_of(tasks, "--tasks")
    for name in names:
        task_called(name)
    criteria = Criteria(tolerance=tolerance, recall_share=recall_share)
    loading = LoadOptions(**with_values(LoadOptions, given))
    written = [read_text(text) for text in texts]
    if write:
        _require_as_stored(loading)
        length_card.require_writable(Path(model))
    language = loading.load(model)
    sequences = [row for file, text in zip(texts, written) for row in _rows(language, file, text, sizes[-1], tokens)]
    maker = ItemMaker(language.tokenizer, language.spec.vocab)
    items = grid_items(maker, names, sizes, haystacks, seed=seed)
    with progress("reading texts and haystacks") as step:
        scores = measure_lengths(language, sequences, items, sizes, step, kv_dtype=loading.kv_dtype)
    report = usable_length(scores, criteria)
    # Shown first, so that a failure to write loses nothing that was measured.
    _show(model, report, json=json, csv=csv)
    if write:
        length_card.write_usable_length(report, Path(model))


def _require_as_stored(loading: LoadOptions) -> None:
    """`InputError` if the model is measured otherwise than it is stored, so that the result is not the stored one's."""
    stored = LoadOptions()
    changed = [name for name in ("dtype", "quantize", "kv_dtype") if getattr(loading, name) != getattr(stored, name)]
    if changed:
        option = changed[0].replace("_", "-")
        raise InputError(f"--write is for MODEL as it is stored, not with --{option}; leave one of the two away")


def _rows(language: "LanguageModel", file: Path, text: str, length: int, tokens: int) -> list[Any]:
    """A text's tokens in sequences of `length`; `InputError` if it has not so many."""
    from ..eval.sequences import windows

    ids = language.encode(text) if text else []
    if min(len(ids), tokens) < length:
        short = f"{file} has {len(ids)} tokens" if len(ids) < length else f"--tokens takes {tokens} tokens"
        raise InputError(f"{short}, but --lengths asks for {length}; give longer texts or smaller lengths")
    return windows(ids, tokens, length)


def _show(model: str, report: "LengthReport", *, json: bool, csv: bool) -> None:
    from ..eval.length_card import verdict

    rows = [_row(one) for one in report.scores]
    if json:
        facts = {"model": model, "usable_length": report.usable_length, "tolerance": report.criteria.tolerance}
        facts |= {"recall_share": report.criteria.recall_share, "lengths": rows}
        print_json(facts | {"breaks": [one._asdict() for one in report.breaks], "unanswered": report.unanswered})
    elif csv:
        print_csv(rows)
    else:
        table = plain_table(*(name.replace("_", " ") for name in rows[0]))
        for row in rows:
            table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
        out.print(table)
        out.print(verdict(report), highlight=False, markup=False)


def _row(score: Any) -> dict[str, Any]:
    """Measurements of a length as one flat row."""
    row = {"length": score.length, "tokens": score.likelihood.tokens, "perplexity": score.likelihood.perplexity}
    for task, one in score.recall.items():
        row |= {task: one.exact, f"{task}_low": one.interval.low, f"{task}_high": one.interval.high}
    return row
