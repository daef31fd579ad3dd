"""Heat map of a recall grid as a picture: depth by length, one field for each task and model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..system.pictures import check_picture, save_picture
from .grid import Cell
from .scores import grouped


def draw(cells: Mapping[str, Sequence[Cell]], file: Path) -> None:
    """Draws the shares of exact answers of each model, by its name, to a .png, .svg or .pdf that does not exist."""
    check_picture(file, "the heat map")
    from matplotlib.figure import Figure  # noqa: PLC0415  (optional, and slow to import)

    fields = {name: grouped(of_model, lambda cell: cell.task) for name, of_model in cells.items()}
    wide = max(map(len, fields.values()))
    figure = Figure(figsize=(1.5 + 3.2 * wide, 0.4 + 3.2 * len(fields)), layout="constrained")
    axes = figure.subplots(len(fields), wide, squeeze=False)
    for row, (name, tasks) in zip(axes, fields.items(), strict=True):
        for axis, (task, part) in zip(row, tasks.items(), strict=True):
            shown = _draw_field(axis, part)
            axis.set_title(f"{task}\n{name}", fontsize=9)
    figure.colorbar(shown, ax=axes, label="exact answers, share")
    save_picture(figure, file)


def _draw_field(axis: Any, cells: Sequence[Cell]) -> Any:
    lengths, depths = list(dict.fromkeys(cell.length for cell in cells)), list(dict.fromkeys(c.depth for c in cells))
    table = {(cell.depth, cell.length): cell.score.exact for cell in cells}
    shares = [[table[depth, length] for length in lengths] for depth in depths]
    # A map of colours whose lightness grows evenly, which the colour-blind read too.
    shown = axis.imshow(shares, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for row, of_depth in enumerate(shares):
        for column, share in enumerate(of_depth):
            colour = "white" if share < 0.5 else "black"
            axis.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axis.set_yticks(range(len(depths)), ["whole" if depth is None else f"{depth:.0%}" for depth in depths])
    axis.set(xlabel="length, tokens", ylabel="depth of the answer")
    return shown
