"""`braid info`: what a model is, from its description alone; weights are not read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..system.units import amount
from .common import Json, ModelArgument, out, print_json

if TYPE_CHECKING:
    from ..train import run_info

EXAMPLE = "Example: braid info hymba-1.5b --lengths 1024,32768"


def command(
    model: ModelArgument = "",
    lengths: Annotated[
        str, typer.Option(help="Lengths of a sequence, in tokens, at which the bytes of its state are told.")
    ] = "1024,8192,32768",
    dtype: Annotated[str, typer.Option(help="Dtype of weights and activations: bfloat16 or float32.")] = "bfloat16",
    kv_dtype: Annotated[str | None, typer.Option(help="Dtype of the KV cache.", show_default=False)] = None,
    quantize: Annotated[
        str | None, typer.Option(help="Dtype of quantized weights: int4, int8 or fp8.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Describe MODEL: layers, parameters, bytes of weights and of state. Without MODEL, list the presets.

    Of a run of training, its TOML file or one of its checkpoints: what it is, how far it is, how to go on.
    """
    from ..api.loading import dtype_of, read_described
    from ..model import footprint
    from ..state.sequence import Precision
    from ..train import run_info

    if not model:
        _list_presets(json)
        return
    run = run_info.read_run_info(Path(model))
    if run is not None:
        _show_run(run, json)
        return
    wanted = _lengths(lengths)
    precision = Precision.of(dtype_of(dtype), kv_dtype)
    spec, kinds, usable_length = read_described(model, quantize)
    facts = footprint.facts(spec, wanted, precision, kinds) | {"usable_length": usable_length}
    if json:
        print_json({"model": model, **facts, "spec": spec.to_json()})
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in footprint.lines(spec, facts):
        table.add_row(name, value)
    out.print(table)


def _show_run(run: "run_info.RunInfo", json: bool) -> None:
    from ..train import run_info

    if json:
        print_json(run_info.info_json(run))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in run_info.info_lines(run):
        table.add_row(name, Text(value))
    out.print(table)


def _lengths(text: str) -> list[int]:
    try:
        lengths = [int(part) for part in text.split(",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 0:
        raise typer.BadParameter("give whole numbers separated by commas, such as 1024,32768", param_hint="--lengths")
    return lengths


def _list_presets(json: bool) -> None:
    from ..api.loading import read_spec
    from ..checkpoints import embedded
    from ..families.presets import PRESETS
    from ..model import footprint
    from ..spec import mixer_kinds

    found = {name: make() for name, make in PRESETS.items()}
    if json:
        print_json({"embedded": embedded.NAME, "presets": {name: preset.hub for name, preset in found.items()}})
        return
    table = Table("preset", "layers", "parameters", "weights", box=None, padding=(0, 2, 0, 0))
    listed = [(embedded.NAME, read_spec(embedded.NAME), "comes with braidlm")]
    listed += [(name, preset.spec, preset.package or preset.hub) for name, preset in found.items()]
    for name, spec, place in listed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in mixer_kinds(spec.blocks).items())
        table.add_row(name, kinds, amount(footprint.size(spec).total), place)
    out.print(table)
