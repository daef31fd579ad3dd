"""The model that a run began with, as cards name it: what it is called, where it is from, which weights it has."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..checkpoints import embedded
from ..families.presets import PRESETS, preset
from ..model.model import Model
from .config import Source


class Base(NamedTuple):
    """A checkpoint that was trained further, or is left as it is beside what was trained.

    name: what `braidlm.load` takes, in whatever directory. source: where the weights come from, for people.
    fingerprint: `Model.base_fingerprint` of the weights as the run read them. quantize: the form they were frozen in.
    """

    name: str
    source: str
    fingerprint: str
    quantize: str | None

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Rows of a card."""
        frozen = f", quantized to {self.quantize}" if self.quantize else ""
        return [("base", f"{self.name}{frozen}"), ("base from", self.source), ("base weights", self.fingerprint)]


def base_of(source: Source, network: Model) -> Base | None:
    """The base of a run whose model has just been read; None for new weights."""
    name = source.checkpoint
    if name is None:
        return None
    here = Path(name)
    return Base(
        str(here.absolute()) if here.exists() else name, _from(name), network.base_fingerprint(), source.quantize
    )


def command_of(base: Base | None, options: Sequence[str] = ()) -> str:
    """What a shell runs in the directory of a card: the model that lies there writes, or `base` with `options`."""
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
