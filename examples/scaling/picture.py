"""Pictures of the study: losses by size at equal compute, and losses by state at equal compute."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from braidlm.system.pictures import COLOURS, MARKERS, save_picture

Run = Mapping[str, Any]


def draw_isoflop(runs: Sequence[Run], file: Path) -> None:
    """Draws the loss by the number of parameters, a field for each layout and a line for each budget."""
    layouts, budgets = (list(dict.fromkeys(run[name] for run in runs)) for name in ("layout", "budget"))
    figure = Figure(figsize=(1 + 3.2 * len(layouts), 4), layout="constrained")
    for axes, layout in zip(figure.subplots(1, len(layouts), sharey=True, squeeze=False)[0], layouts, strict=True):
        for number, budget in enumerate(budgets):
            own = [run for run in runs if run["layout"] == layout and run["budget"] == budget]
            axes.plot(
                [run["parameters"] for run in own], [run["loss"] for run in own], label=f"{budget:.0e} FLOPs",
                color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
            )  # fmt: skip
        axes.set_title(layout)
        _by_parameters(axes)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("loss on held-out text, nats a token")
    figure.axes[0].legend()
    save_picture(figure, file)


def draw_layouts(runs: Sequence[Run], context: int, file: Path) -> None:
    """Draws the loss of the layouts at the greatest budget, by their parameters and by the bytes of their state."""
    last = max(run["budget"] for run in runs)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for number, layout in enumerate(dict.fromkeys(run["layout"] for run in runs)):
        own = [run for run in runs if run["layout"] == layout and run["budget"] == last]
        look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "label": layout}
        for field, values in zip(axes, ("parameters", "state"), strict=True):
            scale = 1024 if values == "state" else 1
            field.plot([run[values] / scale for run in own], [run["loss"] for run in own], **look)
    _by_parameters(axes[0])
    axes[1].set(xscale="log", xlabel=f"state after {context:,} tokens, KiB in float32")
    figure.suptitle(f"{last:.0e} FLOPs each")
    axes[0].set_ylabel("loss on held-out text, nats a token")
    for field in axes:
        field.grid(alpha=0.3)
    axes[0].legend()
    save_picture(figure, file)


def _by_parameters(axes: Axes) -> None:
    """Makes the horizontal axis one of parameters: 30k, 100k, 300k and so on."""
    axes.set(xscale="log", xlabel="parameters")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
