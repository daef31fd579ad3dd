"""Base model of a run, as cards name it: its name, its source, its weights."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..checkpoints import embedded
from ..families.presets import PRESETS, preset
from ..model.model import Model
from .config import Source


class Base(NamedTuple):
    """Base model: a checkpoint that was trained further, or stays as it is beside what was trained.

    name: what `braidlm.load` takes, in whatever directory. source: where the weights come from, for people.
    fingerprint: `Weights.base_fingerprint` of the weights as read by the run. quantize: the dtype they were frozen in.
    """

    name: str
    source: str
    fingerprint: str
    quantize: str | None

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Rows of a model card: pairs of name and text."""
        frozen = f", quantized to {self.quantize}" if self.quantize else ""
        return [("base", f"{self.name}{frozen}"), ("base from", self.source), ("base weights", self.fingerprint)]


def base_of(source: Source, network: Model) -> Base | None:
    """Base of a run whose model has just been read; None for new weights."""
    name = source.checkpoint
    if name is None:
        return None
    here = Path(name)
    return Base(
        str(here.absolute()) if here.exists() else name,
        _from(name),
        network.weights.base_fingerprint(),
        source.quantize,
    )


def command_of(base: Base | None, options: Sequence[str] = ()) -> str:
    """Command line for a card: generates with the model in the card's directory, or with `base` and `options`."""
    name = "." if base is None else base.name
    quantize = ["--quantize", base.quantize] if base is not None and base.quantize else []
    return shlex.join(["braid", "generate", name, "Once upon a time", *options, *quantize])


def _from(name: str) -> str:
    if Path(name).exists():
        return "files of the machine that it was trained on"
    if name == embedded.NAME:
        return "braidlm itself"
    if name not in PRESETS:
        return f"https://huggingface.co/{name}"
    found = preset(name)
    return (
        f"the Python package {found.package} ({found.hub})" if found.package else f"https://huggingface.co/{found.hub}"
    )
