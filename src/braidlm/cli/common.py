"""What several commands share: options, loading with a progress bar, JSON output."""

import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

from ..system.choices import OPS

if TYPE_CHECKING:
    from ..api.language_model import LanguageModel

_WIDE = 10_000


def _console(stream: TextIO, **options: Any) -> Console:
    # Whoever reads from a pipe or a file wants whole names, not what fits on a terminal.
    return Console(width=None if stream.isatty() else _WIDE, **options)


out = _console(sys.stdout)
err = _console(sys.stderr, stderr=True)

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A directory, a GGUF file, a preset's name, or a hub id.", show_default=False),
]
Dtype = Annotated[str, typer.Option(help="auto (as stored), float32, bfloat16 or float64.")]
Device = Annotated[str, typer.Option(help="cpu, or a torch device such as cuda.")]
Ops = Annotated[str, typer.Option(help=f"Implementation of the operations: {', '.join(OPS)}.")]
Quantize = Annotated[
    str | None,
    typer.Option(help="Weights in few bits: int4, int8, fp8, or keep (as the file has them).", show_default=False),
]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="Accept pickled weights (read as tensors only).")]
KvDtype = Annotated[
    str | None,
    typer.Option(help="Store keys and values as float32, bfloat16, float16, fp8 or int8.", show_default=False),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads (all by default).", show_default=False)]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="Bit-equal results in every batch, cut and thread count; prompts run slower."),
]
Adapter = Annotated[
    Path | None, typer.Option(help="A low-rank adapter: a directory in peft's format.", show_default=False)
]
InitialState = Annotated[
    Path | None, typer.Option(help="A learned initial state: a file of braidlm's.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def set_threads(count: int | None) -> None:
    """Limits torch to `count` threads, or where that is None to this process's share of the machine."""
    import torch

    from ..ops.threads import limit_to_share

    limit_to_share()
    if count is not None:
        torch.set_num_threads(count)


def load_model(
    name: str,
    *,
    dtype: str,
    device: str = "cpu",
    ops: str = "auto",
    allow_pickle: bool = False,
    threads: int | None = None,
    quantize: str | None = None,
    deterministic: bool = False,
) -> "LanguageModel":
    """`loading.load` on a given number of threads."""
    from ..api.loading import load

    set_threads(threads)
    return load(name, dtype, device, ops, allow_pickle, quantize=quantize, deterministic=deterministic)


@contextmanager
def telling_warnings() -> Iterator[None]:
    """Warnings of files, each once and in one line on standard error."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        yield
    for note in noted:
        err.print(f"braid: {note.message}", markup=False)


def beside(language: "LanguageModel", adapters: Mapping[str, Path], initials: Mapping[str, Path]) -> None:
    """Loads adapters and learned initial states by name; what their files warn of is told on standard error."""
    with telling_warnings():
        for name, directory in adapters.items():
            language.load_adapter(name, directory)
        for name, file in initials.items():
            language.load_initial_state(name, file)


def with_beside(language: "LanguageModel", adapter: Path | None, state: Path | None) -> "LanguageModel":
    """The model with an adapter and a learned initial state, if they are given."""
    beside(language, {"it": adapter} if adapter else {}, {"it": state} if state else {})
    return language.using("it" if adapter else None, "it" if state else None) if adapter or state else language


def print_json(data: Any) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(data, ensure_ascii=False))
