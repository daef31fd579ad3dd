"""`braid plan`: what a model costs in memory and operations, and how fast this machine will run it; no weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..errors import InputError
from ..system.pictures import check_picture
from .common import Json, Threads, err, out, print_json

if TYPE_CHECKING:
    from ..planner.calibration import Calibration
    from ..planner.plan import Plan, Workload

EXAMPLE = "Example: braid plan hymba-1.5b --context 8192 --sessions 4 --memory 16GiB --compare mamba2-1.3b"

Memory = Annotated[
    str | None,
    typer.Option(help="Memory, such as 16GiB, of which the sessions that fit are counted.", show_default=False),
]
Compare = Annotated[
    list[str],
    typer.Option(metavar="MODEL", help="Another model, in a column beside; may be repeated.", show_default=False),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Picture of state and decode speed by context to draw: .png, .svg or .pdf.",
        show_default=False,
    ),
]


def command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A directory, a config.json, a GGUF file, a preset's name, or a hub id; weights are not read.",
            show_default=False,
        ),
    ] = "",
    context: Annotated[
        int | None, typer.Option(help=r"Number of tokens of each sequence. \[default: 8192]", show_default=False)
    ] = None,
    sessions: Annotated[
        int,
        typer.Option(help="Number of sequences that are held; up to 16, the engine's slots, decode at once."),
    ] = 1,
    memory: Memory = None,
    dtype: Annotated[str, typer.Option(help="Dtype of weights and activations: bfloat16 or float32.")] = "bfloat16",
    kv_dtype: Annotated[str | None, typer.Option(help="Dtype of the KV cache.", show_default=False)] = None,
    quantize: Annotated[
        str | None, typer.Option(help="Dtype of quantized weights: int4, int8 or fp8.", show_default=False)
    ] = None,
    compare: Compare = [],  # noqa: B006
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure this machine first, in 10 to 20 seconds, and keep the result."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Run the model and show what was forecast beside what is measured.")
    ] = False,
    plot: Plot = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Plan MODEL: parameters, bytes of weights, states, engine and training, FLOPs; memory and speed on this machine.

    Speed is forecast from a measurement of this machine, which --calibrate makes once.
    """
    _require_model(model, compare, plot, calibrate=calibrate, check=check)
    if plot is not None:
        check_picture(plot, "the plot of costs by context")
    from ..planner.plan import Workload
    from ..system.units import bytes_of
    from .load_options import set_threads

    set_threads(threads)
    room = None if memory is None else bytes_of(memory)
    workload = Workload(context=context, sessions=sessions, memory=room, generated=_generated() if check else 0)
    calibration = _measured() if calibrate else _saved()
    plans = [_plan(name, dtype, kv_dtype, quantize, workload, calibration) for name in (model, *compare) if name]
    if check:
        _check(plans[0], dtype, quantize, json)
    elif plans:
        if plot is not None:
            _draw(plans, plot)
        _show(plans, json)


def _require_model(model: str, compare: list[str], plot: Path | None, *, calibrate: bool, check: bool) -> None:
    given = [name for name, value in (("--compare", compare), ("--plot", plot), ("--check", check)) if value]
    if not model and given:
        raise InputError(f"{given[0]} needs a model; name one before it")
    if not model and not calibrate:
        raise InputError("there is no model to plan; name one, or measure this machine with --calibrate")
    if check and (compare or plot or calibrate):
        # What a process has measured before stays in its resident memory.
        raise InputError("--check runs one model and nothing beside; give the other options in a run before it")


def _measured() -> "Calibration":
    from ..planner import calibration, measurement

    calibration.check_cache()
    found = measurement.measure()
    err.print(f"the measurement of this machine is kept in {calibration.save(found)}", style="dim", markup=False)
    return found


def _saved() -> "Calibration | None":
    from ..planner import calibration

    try:
        return calibration.saved()
    except InputError as error:
        err.print(f"nothing is said of speed: {error}", style="dim", markup=False)
        return None


def _generated() -> int:
    from ..planner.check import GENERATED

    return GENERATED


def _plan(
    name: str,
    dtype: str,
    kv_dtype: str | None,
    quantize: str | None,
    workload: "Workload",
    calibration: "Calibration | None",
) -> "Plan":
    from ..api.loading import dtype_of, read_described
    from ..planner.plan import make_plan
    from ..state.sequence import Precision

    described = read_described(name, quantize)
    precision = Precision.of(dtype_of(dtype), kv_dtype)
    return make_plan(name, described.spec, precision, described.kinds, workload, calibration)


def _draw(plans: "list[Plan]", file: Path) -> None:
    from ..planner import plot

    plot.draw(plans, file)
    if any(plan.speed is None for plan in plans):
        err.print("the picture has no speed, since this machine is not measured; braid plan --calibrate measures it")


def _show(plans: "list[Plan]", json: bool) -> None:
    from ..planner.plan_text import plan_json, table_rows

    if json:
        first, *others = (plan_json(plan) for plan in plans)
        print_json(first | {"compared": others} if others else first)
        return
    table = Table("", *(plan.model for plan in plans), box=None, padding=(0, 2, 0, 0), show_header=len(plans) > 1)
    for row in table_rows(plans):
        table.add_row(*row)
    out.print(table)


def _check(plan: "Plan", dtype: str, quantize: str | None, json: bool) -> None:
    from ..planner.check import check_plan

    found = check_plan(plan, dtype, quantize)
    if json:
        print_json({"model": plan.model, "checked": [each._asdict() | {"error": each.error} for each in found]})
        return
    table = Table("", "forecast", "measured", "error", box=None, padding=(0, 2, 0, 0))
    for each in found:
        error = "not measured" if each.error is None else f"{each.error:+.1%}"
        table.add_row(each.name, f"{each.forecast:,.4g}", f"{each.measured:,.4g}", error)
    out.print(table)
