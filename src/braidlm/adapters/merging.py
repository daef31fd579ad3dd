"""Merging of an adapter from its files into the weights that it was made for."""

from pathlib import Path

from ..model.model import Model
from .attach import Kind
from .files import load_adapter


def merge(model: Model, directory: str | Path, format: str | None = None) -> list[Kind]:
    """Adds the adapter in a directory to the weights of `model`, in place, and says what was changed.

    Sums are made in float32 (float64) and rounded once to the weights' dtype. `format` names the model's published
    format (see `load_adapter`). Raises what `load_adapter` does, and `InputError` for weights that cannot take a
    change (see `Adapters.merge`); the model is then as it was.
    """
    adapters = load_adapter(model, directory, format)
    changed = adapters.coverage()
    adapters.put_on()
    try:
        adapters.merge()
    except BaseException:
        adapters.detach()
        raise
    return changed
