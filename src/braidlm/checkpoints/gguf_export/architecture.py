"""The GGUF architecture that can express a model, and its metadata."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ... import families
from ...errors import BraidError, SpecError
from ...families import Family
from ...families.base import Gguf
from ...layers.rotary import rope_frequencies
from ...model.model import Model
from ...spec import Attention, FactorScaling, Llama3Scaling, ModelSpec, replace_attention
from .. import binding
from ..binding import Export

# Metadata holds numbers in float32.
_RELATIVE = 1e-6


class Architecture(NamedTuple):
    """GGUF architecture that expresses a model: its name rules, metadata, and the spec in its terms."""

    layout: Gguf
    metadata: dict[str, Any]
    spec: ModelSpec


def architecture_of(spec: ModelSpec) -> Architecture:
    """The first architecture that can express `spec`; `SpecError` if none can."""
    known = [family for family in families.families() if family.gguf is not None]
    own = _with_factors(spec)
    for family in known:
        try:
            return _checked(family, own)
        except BraidError:
            continue
    names = ", ".join(sorted({family.gguf.arch for family in known if family.gguf is not None}))
    raise SpecError(f"no GGUF architecture that braidlm writes ({names}) can express this model; save it as braidlm")


def _with_factors(spec: ModelSpec) -> ModelSpec:
    """The same model with Llama 3's scaling as the factors that it gives each pair, as these files have it."""
    return replace(
        spec, blocks=tuple(replace(block, mixer=replace_attention(block.mixer, _factors)) for block in spec.blocks)
    )


def _factors(attention: Attention) -> Attention:
    rope = attention.rope
    if rope is None or not isinstance(rope.scaling, Llama3Scaling):
        return attention
    factors = rope_frequencies(replace(rope, scaling=None)) / rope_frequencies(rope)
    return replace(attention, rope=replace(rope, scaling=FactorScaling(factors=tuple(factors.tolist()))))


def _checked(family: Family, spec: ModelSpec) -> Architecture:
    """Architecture of a spec in a family's files; `SpecError` unless reading it gives `spec` again."""
    layout = family.gguf
    assert layout is not None
    metadata = layout.metadata(spec)
    with torch.device("meta"):
        table = _Table(_tensors(Model(spec), layout))
    again = family.read(layout.config(metadata, table))
    if spec.max_positions is None:  # files always declare a length
        again = replace(again, max_positions=None)
    if not _alike(again.to_json(), spec.to_json()):
        raise SpecError(f"GGUF files of architecture {layout.arch} cannot express this model")
    return Architecture(layout, metadata, spec)


class _Table:
    """The tensors that a file will have, as its reader asks for them."""

    def __init__(self, tensors: list[Export]) -> None:
        self._make = {entry.name: entry.make for entry in tensors}
        self.shapes = {name: tuple(make().shape) for name, make in self._make.items()}

    def get(self, name: str) -> Tensor:
        """One tensor."""
        return self._make[name]()


def _tensors(model: Model, layout: Gguf) -> list[Export]:
    extra = [Export(name, tensor.nbytes, tensor.clone) for name, tensor in layout.tensors(model.spec).items()]
    return [*binding.export(model, layout.names(model.spec)), *extra]


def _alike(a: Any, b: Any) -> bool:
    """Whether two specs agree, numbers to the precision of float32."""
    if isinstance(a, float) and isinstance(b, (int, float)):
        return abs(a - b) <= _RELATIVE * abs(b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    return bool(a == b)
