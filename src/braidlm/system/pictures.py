"""Pictures for people in files: whether one can be drawn, its colours, and the file written whole.

Pictures are drawn by matplotlib, which is optional and slow to import.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, not_installed
from .files import check_no_file, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that the colour-blind tell apart, also in grey: those of Okabe and Ito, darkest first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")

_SUFFIXES = (".png", ".svg", ".pdf")
# Without a date or random names the same picture is the same file.
_METADATA: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def check_matplotlib(what: str) -> None:
    """`UnavailableError` unless matplotlib is there to draw `what`; checked before long work, not after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise not_installed(what, "matplotlib", "train")


def check_picture(file: Path, what: str) -> None:
    """Error unless `what` can be drawn and `file` be written; checked before long work, not after it.

    `UnavailableError` without matplotlib, `InputError` for a suffix of no picture and a file or directory that is
    in the way.
    """
    check_matplotlib(what)
    if file.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{file} has the suffix {file.suffix!r}, but pictures are {', '.join(_SUFFIXES)}")
    check_no_file(file)
    if not file.parent.is_dir():
        raise InputError(f"cannot write {file}: there is no directory {file.parent}")


def save_picture(figure: "Figure", file: Path) -> None:
    """Writes a figure whole to a .png, .svg or .pdf, in capitals too; the same figure gives the same bytes."""
    import matplotlib  # noqa: PLC0415  (optional, and slow to import)

    suffix = file.suffix.lower()
    with whole_file(file) as temporary, matplotlib.rc_context({"svg.hashsalt": "braidlm"}):
        figure.savefig(temporary, dpi=150, format=suffix[1:], metadata=_METADATA[suffix])
