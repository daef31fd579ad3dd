"""Models to GGUF files: the way back of the rules by which a family reads them.

Matrices are written in the model's dtype (or the one asked for); vectors, decays, convolutions,
routers and norms in float32, as other readers of these files need them. What an architecture cannot say is
refused: the metadata is read back and must give the same description. Files carry no tokenizer:
they are read by token ids.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFValueType
from torch import Tensor

from . import checkpoint, families
from .checkpoint import Export, Progress
from .errors import BraidError, InputError, SpecError
from .families import Family
from .families.base import Gguf
from .files import whole_file
from .model import Model
from .quantizing import require_plain
from .spec import ModelSpec

DTYPES = {
    "float32": (torch.float32, GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "bfloat16": (torch.bfloat16, GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "float16": (torch.float16, GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
}

# Matrices by shape that are not multiplied as matrices, or that choose between experts.
_PRECISE = ("ssm_conv1d.weight", "ssm_norm.weight", "ffn_gate_inp.weight")

# Metadata holds numbers in float32.
_RELATIVE = 1e-6


def export_gguf(model: Model, path: str | Path, dtype: str | None = None, progress: Progress | None = None) -> None:
    """Writes `model` as a GGUF file, which appears whole or not at all.

    `dtype` is "float32", "bfloat16" or "float16" for the matrices; None as the model's are.
    Raises `SpecError` if no GGUF architecture that braidlm knows can express the model.
    """
    require_plain(model, "a GGUF file of ours")
    kind = dtype or str(model.dtype).removeprefix("torch.")
    if kind not in DTYPES:
        raise InputError(f"dtype is {kind!r}, but a GGUF file's matrices must be one of {', '.join(DTYPES)}")
    form, metadata, shapes = _for_spec(model.spec)
    with whole_file(Path(path)) as place:
        writer = gguf.GGUFWriter(place, form.arch)
        try:
            _describe(writer, form.arch, metadata, kind)
            _write(writer, _tensors(model, form), shapes, kind, progress)
        finally:
            writer.close()


Shapes = dict[str, tuple[int, ...]]


def _for_spec(spec: ModelSpec) -> tuple[Gguf, dict[str, Any], Shapes]:
    """The first architecture that can express `spec`, its metadata, and the shapes of its tensors."""
    known = [family for family in families.families() if family.gguf is not None]
    for family in known:
        try:
            return _checked(family, spec)
        except BraidError:
            continue
    names = ", ".join(family.gguf.arch for family in known if family.gguf is not None)
    raise SpecError(f"no GGUF architecture that braidlm writes ({names}) can express this model; save it as braidlm")


def _checked(family: Family, spec: ModelSpec) -> tuple[Gguf, dict[str, Any], Shapes]:
    """What `_for_spec` gives, if reading it gives `spec` again."""
    form = family.gguf
    assert form is not None
    metadata = form.metadata(spec)
    with torch.device("meta"):
        table = _Table(_tensors(Model(spec), form))
    again = family.read(form.config(metadata, table))
    if not _alike(again.to_json(), spec.to_json()):
        raise SpecError(f"GGUF files of architecture {form.arch} cannot express this model")
    return form, metadata, table.shapes


class _Table:
    """The tensors that a file will have, as its reader asks for them."""

    def __init__(self, tensors: list[Export]) -> None:
        self._make = {entry.name: entry.make for entry in tensors}
        self.shapes: Shapes = {name: tuple(make().shape) for name, make in self._make.items()}

    def get(self, name: str) -> Tensor:
        """One tensor."""
        return self._make[name]()


def _tensors(model: Model, form: Gguf) -> list[Export]:
    extra = [Export(name, tensor.nbytes, tensor.clone) for name, tensor in form.tensors(model.spec).items()]
    return [*checkpoint.export(model, form.names(model.spec)), *extra]


def _alike(a: Any, b: Any) -> bool:
    """Whether two descriptions agree, numbers to the precision of float32."""
    if isinstance(a, float) and isinstance(b, (int, float)):
        return abs(a - b) <= _RELATIVE * abs(b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    return bool(a == b)


def _describe(writer: gguf.GGUFWriter, arch: str, metadata: Mapping[str, Any], kind: str) -> None:
    writer.add_type("model")
    writer.add_file_type(DTYPES[kind][2])
    writer.add_tokenizer_model("no_vocab")
    for key, value in metadata.items():
        _add(writer, f"{arch}.{key}", value)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=GGUFValueType.INT32)
        return
    kinds = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
    writer.add_key_value(key, value, kinds.get(type(value), GGUFValueType.STRING))


def _write(
    writer: gguf.GGUFWriter, tensors: list[Export], shapes: Shapes, kind: str, progress: Progress | None
) -> None:
    """All shapes first, then one tensor after the other, so that only one is in memory beside the model."""
    kinds = {name: kind if _is_matrix(name, shape) else "float32" for name, shape in shapes.items()}
    for entry in tensors:
        dtype, stored, _ = DTYPES[kinds[entry.name]]
        shape = shapes[entry.name]
        writer.add_tensor_info(
            entry.name, shape, np.dtype(np.float32), math.prod(shape) * dtype.itemsize, raw_dtype=stored
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, entry in enumerate(tensors, 1):
        tensor = entry.make().to("cpu", DTYPES[kinds[entry.name]][0]).contiguous()
        # numpy has no bfloat16; the bytes are what counts.
        writer.write_tensor_data(tensor.view(torch.uint8).numpy())
        if progress is not None:
            progress(done, len(tensors))


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return name.endswith(".weight") and len(shape) > 1 and not name.endswith(_PRECISE)
