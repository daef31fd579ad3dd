"""Heat map of a recall grid as a picture: depth by length, one field for each task and model."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, not_installed
from ..system.files import check_no_file, whole_file
from .grid import Cell
from .scores import grouped

_SUFFIXES = (".png", ".svg", ".pdf")


def require(file: Path) -> None:
    """Error unless a heat map can be drawn and `file` be written; checked before models are run.

    `UnavailableError` without matplotlib, `InputError` for a suffix of no picture and a file or directory that is
    in the way.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise not_installed("the heat map", "matplotlib", "train")
    if file.suffix not in _SUFFIXES:
        raise InputError(f"{file} has the suffix {file.suffix!r}, but pictures are {', '.join(_SUFFIXES)}")
    check_no_file(file)
    if not file.parent.is_dir():
        raise InputError(f"cannot write {file}: there is no directory {file.parent}")


def draw(cells: Mapping[str, Sequence[Cell]], file: Path) -> None:
    """Draws the shares of exact answers of each model, by its name, to a .png, .svg or .pdf that does not exist."""
    require(file)
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
    with whole_file(file) as temporary:
        figure.savefig(temporary, dpi=150, format=file.suffix[1:])


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
