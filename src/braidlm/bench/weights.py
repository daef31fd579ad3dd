"""Weight files of a comparison: the same weights for every side, in the layout that it reads."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import families
from ..api.language_model import LanguageModel
from ..api.loading import build, load, read_spec
from ..api.places import is_preset
from ..checkpoints.gguf_export import export_gguf
from ..errors import InputError, SpecError
from ..spec import ModelSpec
from .contestant import KINDS, Contestant
from .precision import stored_dtype


class Weights:
    """Files of one model in a directory of its own, written for a side when that side asks for it.

    `name` is a preset's name, which stands for random weights of that shape, or whatever
    `braidlm.load` takes. `layers` keeps the first blocks only, for models that are too large as a whole.
    """

    def __init__(self, name: str, place: Path, *, layers: int | None = None, llama_python: str | None = None) -> None:
        if layers is not None and not is_preset(name):
            raise InputError("only a preset, whose weights are random, can be cut to its first layers")
        self.name = name if layers is None else f"{name}, first {layers} blocks"
        self._place = place
        self._llama_python = llama_python
        self._source = name
        self._model: LanguageModel | None = None
        self._dtype = ""
        self.spec = _cut(read_spec(name), layers)

    def _read(self, dtype: str) -> LanguageModel:
        if self._model is None or self._dtype != dtype:
            self._model, self._dtype = None, dtype  # the old one goes before the new one comes
            if is_preset(self._source):
                self._model = build(self.spec, dtype=dtype)
            else:
                self._model = load(self._source, dtype=dtype)
        return self._model

    def files(self, side: str, precision: str) -> Path | None:
        """Files that a side loads, or None if they cannot say what the model is."""
        dtype = stored_dtype(precision)
        if side != "llama.cpp":
            return self._directory(side, dtype)
        path = self._gguf(dtype)
        return path if path is None or precision in ("f32", "bf16") else self._quantized(path, precision)

    def forget(self) -> None:
        """Frees this process's own copy of the weights; sides read files."""
        self._model = None

    def _directory(self, side: str, dtype: str) -> Path | None:
        published = _can(lambda: families.for_spec(self.spec))
        if side != "braidlm" and not published:
            return None
        place = self._place / dtype
        if not place.exists():
            self._read(dtype).save(place, "hf" if published else "braidlm")
        return place

    def _gguf(self, dtype: str) -> Path | None:
        path = self._place / f"{dtype}.gguf"
        if path.exists() or _can(lambda: export_gguf(self._read(dtype).network, path)):
            return path
        return None

    def _quantized(self, path: Path, precision: str) -> Path:
        target = path.with_name(f"{precision}.gguf")
        if not target.exists():
            with Contestant(KINDS["llama.cpp"], self._llama_python) as side:
                asked = {"source": str(path), "target": str(target), "precision": precision, "threads": 0}
                side.ask("quantize", asked)
        return target


def _can(act: Callable[[], Any]) -> bool:
    """Whether a format can express the model."""
    try:
        act()
    except SpecError:
        return False
    return True


def _cut(spec: ModelSpec, layers: int | None) -> ModelSpec:
    if layers is not None and not 0 < layers <= len(spec.blocks):
        raise InputError(f"layers is {layers}, but must be from 1 to {len(spec.blocks)}")
    return spec if layers is None else replace(spec, blocks=spec.blocks[:layers])
