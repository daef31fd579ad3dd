"""`braid merge`: a model with an adapter in its weights, as a checkpoint of its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..system.files import check_free
from .common import AllowPickle, Dtype, Json, err, load_model, out, print_json, progress, telling_warnings

if TYPE_CHECKING:
    from .. import adapters
    from ..api.language_model import LanguageModel
    from ..train.base import Base

EXAMPLE = "Example: braid merge smollm2-135m runs/talks/adapter ./smollm2-talks"

INITIAL = "initial.safetensors"


def command(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE", help="The model that the adapter was made for, not quantized.", show_default=False
        ),
    ],
    adapter: Annotated[
        Path,
        typer.Argument(metavar="ADAPTER", help="A low-rank adapter: a directory in peft's format.", show_default=False),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A directory that does not exist yet.", show_default=False)
    ],
    state: Annotated[
        Path | None,
        typer.Option(help=f"A learned initial state to go with it, written to OUT/{INITIAL}.", show_default=False),
    ] = None,
    format: Annotated[
        str, typer.Option(help="auto (published where there is such a layout), hf, braidlm, or a format's name.")
    ] = "auto",
    dtype: Dtype = "auto",
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Write BASE with ADAPTER in its weights to a directory, which appears whole or not at all."""
    from .. import adapters
    from ..checkpoints.saving import best_format, check_format
    from ..train.base import base_of
    from ..train.config import Source

    if format != "auto":
        check_format(format)
    check_free(target)
    _require_adapter(adapter)
    language = load_model(base, dtype=dtype, allow_pickle=allow_pickle)
    begun = base_of(Source(checkpoint=base), language.network)
    assert begun is not None
    with telling_warnings():
        initial = None if state is None else adapters.load_initial(language.network, state)
        changed = language.merge_adapter(adapter)
    form = best_format(language.spec) if format == "auto" else format
    with progress(f"writing {target.name}") as step:
        language.save(target, form, step)
    if initial is not None:
        _save_initial(language, initial, target)
    elif (adapter.resolve().parent / INITIAL).exists():
        err.print(f"{INITIAL} beside {adapter} is not in weights; --state keeps it with them", markup=False)
    _describe(begun, adapter, target, with_state=initial is not None)
    _tell(target, form, changed, json=json)


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


def _tell(target: Path, form: str, changed: "list[adapters.Kind]", *, json: bool) -> None:
    files = sorted(file.name for file in target.iterdir())
    if json:
        kinds = {kind.name: kind.layers for kind in changed}
        print_json({"directory": str(target), "format": form, "files": files, "changed": kinds})
        return
    summary = ", ".join(f"{kind.layers} {kind.name}" for kind in changed)
    out.print(f"{target}: {', '.join(files)}", markup=False, highlight=False)
    out.print(f"changed: {summary}", markup=False, highlight=False)
