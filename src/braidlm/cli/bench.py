"""`braid bench`: how fast a model is here, beside baselines and beside what the machine could do."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..bench.contestant import KINDS
from ..bench.precision import check
from ..errors import InputError
from ..system.units import amount
from .common import Json, Threads, err, out, print_json

if TYPE_CHECKING:
    from ..bench.run import Comparison, Runner, Task

EXAMPLE = "Example: braid bench mamba2-130m --prompt 512 --decode 64 --against transformers"

_BASELINES = [name for name in KINDS if name != "braidlm"]

_Against = Annotated[
    list[str],
    typer.Option(
        help=f"Baselines, measured in the same run: {', '.join(_BASELINES)}; may be repeated.", show_default=False
    ),
]


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Presets' names (random weights of that shape), directories, GGUF files or hub ids.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        list[int], typer.Option(min=1, help="Length in tokens of a prompt to prefill; may be repeated.")
    ] = [512],  # noqa: B006
    decode: Annotated[int, typer.Option(min=0, help="Number of tokens generated for each sequence; 0 for none.")] = 64,
    batch: Annotated[list[int], typer.Option(min=1, help="Sequences decoded together; may be repeated.")] = [1],  # noqa: B006
    context: Annotated[int, typer.Option(min=1, help="Number of tokens before the first generated one.")] = 128,
    precision: Annotated[
        list[str], typer.Option(help="Dtype of the weights: bf16, f32, int8 or int4; may be repeated.")
    ] = ["bf16"],  # noqa: B006
    against: _Against = [],  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds in which all libraries take turns.")] = 5,
    threads: Threads = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Number of blocks of a preset that are measured.", show_default=False)
    ] = None,
    llama_python: Annotated[
        str | None, typer.Option(help="Python interpreter that has llama-cpp-python.", show_default=False)
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the presets and the baselines.")] = False,
    json: Json = False,
) -> None:
    """Measure prefill and decode of MODELs, and what share of their time the machine's limits account for."""
    if list_:
        _list(json)
        return
    if not models:
        raise InputError("there is no model to measure; name one, or see --list")
    for name in precision:
        check(name)

    import torch

    from ..bench import table
    from ..bench.run import Decode, Prefill, Runner
    from ..planner import probe

    machine = probe.machine() | {"busy": probe.busy_share()}
    count = threads or torch.get_num_threads()
    runner = Runner(against, rounds, count, llama_python)
    tasks: list[Task] = [Prefill(length) for length in prompt]
    tasks += [Decode(decode, sequences, context) for sequences in batch if decode]
    measured = (_measure(runner, name, precision, tasks, layers, llama_python) for name in models)
    results = [comparison for comparisons in measured for comparison in comparisons]
    if json:
        print_json(table.to_json(results, machine, threads=count, rounds=rounds))
        return
    where = table.conditions(machine, results, count, rounds)
    out.print(f"{where}\n\n{table.markdown(results, against)}", markup=False, highlight=False, soft_wrap=True)


def _measure(
    runner: "Runner",
    name: str,
    precisions: list[str],
    tasks: "list[Task]",
    layers: int | None,
    llama_python: str | None,
) -> "Iterator[Comparison]":
    """One model in every precision; its files are gone afterwards."""
    from ..bench.weights import Weights

    with tempfile.TemporaryDirectory(prefix="braidlm-bench-") as place:
        weights = Weights(name, Path(place), layers=layers, llama_python=llama_python)
        for precision in precisions:
            err.print(f"{weights.name}, {precision}", style="dim")
            yield runner.compare(weights, precision, tasks)


def _list(json: bool) -> None:
    from ..families.presets import PRESETS
    from ..model import footprint
    from ..spec import mixer_kinds

    presets = {name: make().spec for name, make in PRESETS.items()}
    sizes = {name: footprint.size(spec).total for name, spec in presets.items()}
    if json:
        print_json({"presets": sizes, "baselines": _BASELINES})
        return
    for name, spec in presets.items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in mixer_kinds(spec.blocks).items())
        out.print(f"{name}: {amount(sizes[name])} parameters, {kinds}", markup=False, highlight=False)
    out.print(f"baselines: {', '.join(_BASELINES)}", markup=False, highlight=False)
