"""Plot of exact answers by the bytes of the state, a line for each layout, with error bars over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from braidlm.eval.scores import grouped
from braidlm.system.pictures import COLOURS, MARKERS, save_picture


def draw(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draws a field for each task of the rows: a hybrid is dashed and hollow, in the colour of its recurrence."""
    from matplotlib.figure import Figure

    tasks = grouped(rows, lambda row: row["task"])
    names = list(dict.fromkeys(_recurrence(row["layout"]) for row in rows))
    figure = Figure(figsize=(1 + 5 * len(tasks), 4.5), layout="constrained")
    for axes, (task, of_task) in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks.items(), strict=True):
        for layout, points in grouped(of_task, lambda row: row["layout"]).items():
            number, hybrid = names.index(_recurrence(layout)), layout != _recurrence(layout)
            axes.errorbar(
                [row["state"] / 1024 for row in points], [row["exact"] for row in points],
                yerr=[row["spread"] or 0 for row in points], label=layout, capsize=3, markersize=6,
                color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
                linestyle="--" if hybrid else "-", markerfacecolor="none" if hybrid else None,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(title=task, xlabel="state after a text, KiB in float32", ylim=(-0.03, 1.03))
        axes.set_ylabel("exact answers, share of held-out questions")
        axes.grid(alpha=0.3)
    axes.legend()
    save_picture(figure, file)


def _recurrence(layout: str) -> str:
    return layout.removesuffix("-attention")
