"""Adapters in files, added to the weights that they were made for."""

from pathlib import Path

from ..model.model import Model
from .attach import Kind
from .files import load


def merge(model: Model, directory: str | Path, form: str | None = None) -> list[Kind]:
    """Adds the adapter in a directory to the weights of `model`, in place, and says what was changed.

    Sums are made in float32 (float64) and rounded once to the weights' dtype. `form` names the model's published format
    (see `load`). Raises what `load` does, and `InputError` for weights that cannot take a change (see
    `Adapters.merge`); the model is then as it was.
    """
    adapters = load(model, directory, form)
    changed = adapters.coverage()
    adapters.put_on()
    try:
        adapters.merge()
    except BaseException:
        adapters.detach()
        raise
    return changed
