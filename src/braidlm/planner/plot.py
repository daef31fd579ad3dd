"""Picture of plans: state of a sequence and decode speed by the length of the context, a line for each model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..system.pictures import COLOURS, MARKERS, check_picture, save_picture
from ..system.units import size
from .plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = {"kv": "keys and values", "window_kv": "keys and values of windows", "recurrent": "recurrent states"}


def draw(plans: Sequence[Plan], file: Path) -> None:
    """Draws plans to a .png, .svg or .pdf that does not exist; speed only where each plan has a forecast of it."""
    check_picture(file, "the plot of costs by context")
    if len(plans) > len(COLOURS):
        raise InputError(f"a plot shows at most {len(COLOURS)} models, but {len(plans)} are given")
    from matplotlib.figure import Figure  # noqa: PLC0415  (optional, and slow to import)

    fields = 2 if all(plan.speed is not None for plan in plans) else 1
    figure = Figure(figsize=(5.2 * fields, 4.4), layout="constrained")
    axes = figure.subplots(1, fields, squeeze=False)[0]
    _draw_states(axes[0], plans)
    if fields == 2:
        _draw_speeds(axes[1], plans)
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1024:.0f}K" if value >= 1024 else f"{value:.0f}")
        axis.set_xlabel("context, tokens")
        axis.grid(alpha=0.3)
    figure.legend(handles=axes[0].get_lines(), loc="outside lower center", ncols=2 * fields, fontsize=8)
    save_picture(figure, file)


def _draw_states(axis: "Axes", plans: Sequence[Plan]) -> None:
    """Whole states of all models; of a single model its kinds too."""
    for plan, colour, marker in zip(plans, COLOURS, MARKERS):
        contexts = [cost.context for cost in plan.by_context]
        whole = [cost.state.total for cost in plan.by_context]
        axis.plot(contexts, whole, color=colour, marker=marker, markersize=4, label=plan.model)
    if len(plans) == 1:
        for (kind, name), colour in zip(_KINDS.items(), COLOURS[1:]):
            part = [getattr(cost.state, kind) for cost in plans[0].by_context]
            if any(part):
                axis.plot(contexts, part, "--", color=colour, label=name)
    axis.set_yscale("log", base=2)
    axis.yaxis.set_major_formatter(lambda value, _: size(value).replace(".0 ", " "))
    axis.set_ylabel("bytes")
    axis.set_title(f"state of a sequence, keys and values in {plans[0].facts['kv_dtype']}", fontsize=10)


def _draw_speeds(axis: "Axes", plans: Sequence[Plan]) -> None:
    for plan, colour, marker in zip(plans, COLOURS, MARKERS):
        contexts = [cost.context for cost in plan.by_context]
        speeds = [cost.tokens_per_second or 0.0 for cost in plan.by_context]
        axis.plot(contexts, speeds, color=colour, marker=marker, markersize=4)
    axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
    axis.set_ylabel("tokens a second")
    rows = plans[0].rows
    axis.set_title(f"decode of {'one sequence' if rows == 1 else f'{rows} sequences at once'}, forecast", fontsize=10)
