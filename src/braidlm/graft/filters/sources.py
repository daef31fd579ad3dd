"""Sources of filters: a file of arrays or of implicit filters, a run, a model; and what is written for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ...errors import InputError
from ...system.files import check_free, check_no_file
from ...train.modal import Modes
from . import arrays, models

_SUFFIXES = (".npy", ".safetensors")


class Source(Protocol):
    """Filters [F, L] by layer, and a way to write the modes that are found for them."""

    @property
    def kind(self) -> str:
        """What the source is."""

    @property
    def filters(self) -> Mapping[str, Tensor]:
        """Filters of each layer."""

    def write(self, target: Path, modes: Mapping[str, Modes], facts: Mapping[str, Any]) -> None:
        """Writes the modes, with the report on them."""


@dataclass(frozen=True)
class FilterFile:
    """Filters of a file; their modes are written to a file, too."""

    kind: str
    filters: dict[str, Tensor]

    def write(self, target: Path, modes: Mapping[str, Modes], facts: Mapping[str, Any]) -> None:
        """Writes a file of modes (see `arrays`)."""
        arrays.write_modes(target, modes, facts)


def open_source(name: str, target: Path, *, length: int | None, shift: float | None, dtype: str) -> Source:
    """The source of a name; `InputError` if it has no filters, or if what is made of it cannot appear at `target`.

    length: positions of the filters (None: all). shift: that of published windows. dtype: of a model's weights.
    """
    path = Path(name)
    if path.suffix in _SUFFIXES:
        if target.suffix != ".safetensors":
            raise InputError(f"{target} is to hold modes alone; give it a name that ends in .safetensors")
        if dtype != "auto":
            raise InputError(f"{name} is a file of filters, whose modes are float32; leave --dtype out")
        check_no_file(target)
        return FilterFile(*arrays.read_arrays(path, shift, length))
    if shift is not None:
        raise InputError(f"{name} is a run or a model, whose windows are known; leave --window-shift out")
    check_free(target)
    return models.of_run(path, length, dtype) if models.is_run(path) else models.of_model(name, length, dtype)
