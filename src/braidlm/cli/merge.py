"""`braid merge`: an adapter merged into a model's weights, as a checkpoint of its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..system.files import check_free
from ..system.progress_bar import progress
from ..train.results import INITIAL
from .common import AllowPickle, Dtype, Json, err, out, print_json, telling_warnings
from .load_options import LoadOptions

if TYPE_CHECKING:
    from .. import adapters
    from ..api.language_model import LanguageModel
    from ..train.base import Base

EXAMPLE = "Example: braid merge smollm2-135m runs/talks/adapter ./smollm2-talks"


def command(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE", help="Model that the adapter was trained on, not quantized.", show_default=False
        ),
    ],
    adapter: Annotated[
        Path,
        typer.Argument(metavar="ADAPTER", help="Directory of a low-rank adapter in peft's format.", show_default=False),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="New directory for the merged model.", show_default=False)
    ],
    state: Annotated[
        Path | None,
        typer.Option(
            help=f"File of a learned initial state that goes with it, written anew to OUT/{INITIAL}.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str, typer.Option(help="Format to write: auto (the published one where there is one), hf, braidlm, or a name.")
    ] = "auto",
    dtype: Dtype = "auto",
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Write BASE with ADAPTER merged into its weights to OUT, whole or not at all."""
    from .. import adapters
    from ..checkpoints.saving import best_format, check_format
    from ..train.base import base_of
    from ..train.config import Source

    if format != "auto":
        check_format(format)
    check_free(target)
    _require_adapter(adapter)
    language = LoadOptions(dtype=dtype, allow_pickle=allow_pickle).load(base)
    begun = base_of(Source(checkpoint=base), language.network)
    assert begun is not None
    with telling_warnings():
        initial = None if state is None else adapters.load_initial(language.network, state)
        changed = language.merge_adapter(adapter)
    written = best_format(language.spec) if format == "auto" else format
    with progress(f"writing {target.name}") as step:
        language.save(target, written, step)
    if initial is not None:
        _save_initial(language, initial, target)
    elif (adapter.resolve().parent / INITIAL).exists():
        err.print(f"{INITIAL} beside {adapter} is not in weights; --state keeps it with them", markup=False)
    _describe(begun, adapter, target, with_state=initial is not None)
    _tell(target, written, changed, json=json)


def _require_adapter(adapter: Path) -> None:
    if adapter.is_file():
        raise InputError(
            f"{adapter} is a file, but an adapter is a directory; a learned initial state cannot become weights, "
            "it is kept beside them: --state FILE"
        )


def _save_initial(language: "LanguageModel", initial: "adapters.InitialState", target: Path) -> None:
    """Writes the state anew, since it is now for the merged weights."""
    from .. import adapters

    adapters.put_on(language.network, initial)
    adapters.save_initial(language.network, target / INITIAL)


def _describe(base: "Base", adapter: Path, target: Path, *, with_state: bool) -> None:
    """Writes a card that says what was merged, and how to use it."""
    from ..train.base import command_of

    rows = "\n".join(f"| {name} | {value} |" for name, value in [*base.facts, ("adapter", str(adapter.absolute()))])
    use = command_of(None, ["--state", INITIAL] if with_state else [])
    (target / "README.md").write_text(
        f"# {target.absolute().name}\n\nAn adapter in the weights of its base, merged with braidlm.\n\n"
        f"|  |  |\n| --- | --- |\n{rows}\n\n## Use\n\nIn this directory:\n\n```sh\n{use}\n```\n",
        encoding="utf-8",
    )


def _tell(target: Path, format: str, changed: "list[adapters.Kind]", *, json: bool) -> None:
    files = sorted(file.name for file in target.iterdir())
    if json:
        kinds = {kind.name: kind.layers for kind in changed}
        print_json({"directory": str(target), "format": format, "files": files, "changed": kinds})
        return
    summary = ", ".join(f"{kind.layers} {kind.name}" for kind in changed)
    out.print(f"{target}: {', '.join(files)}", markup=False, highlight=False)
    out.print(f"changed: {summary}", markup=False, highlight=False)
