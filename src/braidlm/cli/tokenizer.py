"""`braid tokenizer`: vocabularies of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from ..system.files import check_free, whole_directory
from ..system.progress_bar import progress
from .common import Json, out, print_json

EXAMPLE = "Example: braid tokenizer train ./books --vocab 4096 --out ./vocabulary"

app = typer.Typer(
    name="tokenizer", help="Vocabularies of your own, for models trained from nothing.", no_args_is_help=True
)


@app.command("train", epilog=EXAMPLE)
def train_tokenizer(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCES...", help="Text files, directories, patterns.", show_default=False)
    ],
    directory: Annotated[Path, typer.Option("--out", help="A directory that does not exist yet.", show_default=False)],
    vocab: Annotated[int, typer.Option(min=257, help="Tokens, of which 256 are the bytes and one ends a text.")] = 4096,
    json: Json = False,
) -> None:
    """Learn a byte-level vocabulary from texts in UTF-8."""
    from ..train.data.vocabulary import END, train

    check_free(directory)
    with progress("reading") as step:
        tokenizer = train(sources, vocab, step)
    with whole_directory(directory) as place:
        tokenizer.save(place)
    if json:
        print_json({"directory": str(directory), "vocabulary": tokenizer.vocab_size, "end": END})
        return
    out.print(f"{directory}: {tokenizer.vocab_size} tokens, {END} ends a text", markup=False, highlight=False)
