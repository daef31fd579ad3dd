"""Writer of GGUF files: a model with its tokenizer."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGUFValueType

from ...errors import InputError
from ...model.model import Model
from ...system.dtypes import name_of, torch_dtype
from ...system.files import whole_file
from ...system.progress import ProgressFunction
from ...text.tokenizer import Tokenizer
from .architecture import architecture_of
from .tensors import PLAIN, GgufTensor, gguf_tensors
from .tokenizing import tokenizer_metadata

DTYPES = ("float32", "bfloat16", "float16")
_PLAIN = {kind.name for kind in PLAIN.values()}
# What a file is said to be by the type that most of its matrices have.
_FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
}


def export_gguf(
    model: Model,
    path: str | Path,
    dtype: str | None = None,
    progress: ProgressFunction | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    ends: Sequence[int] = (),
    name: str | None = None,
    dequantize: bool = False,
) -> dict[str, int]:
    """Writes `model` as a GGUF file, which appears whole or not at all; gives the number of tensors of each type.

    `dtype` is "float32", "bfloat16" or "float16" for matrices that are not quantized, None what the model's are in;
    with `dequantize` it is for all matrices. `tokenizer` goes into the file with its chat templates and `ends`, further
    ids that end a text; None writes a file that is read by token ids. `name` is what the file says it is called (its
    own name without one).

    Raises `SpecError` if no GGUF architecture that braidlm knows can express the model, `InputError` if a tokenizer or
    weights in fp8 cannot be expressed.
    """
    model.require_no_adapters("written as GGUF")
    wanted = dtype or name_of(model.dtype)
    if wanted not in DTYPES:
        raise InputError(f"dtype is {wanted!r}, but a GGUF file's matrices must be one of {', '.join(DTYPES)}")
    layout, metadata, spec = architecture_of(model.spec)
    tensors = gguf_tensors(model, spec, layout, torch_dtype(wanted), plain=dequantize)
    words = tokenizer_metadata(tokenizer, model.spec.vocab, ends)
    general = _general(name or Path(path).stem, tensors)
    own = {f"{layout.arch}.{key}": value for key, value in metadata.items()}
    with whole_file(Path(path)) as place:
        writer = gguf.GGUFWriter(place, layout.arch)
        try:
            for key, value in (general | own | words).items():
                _add(writer, key, value)
            _write(writer, tensors, progress)
        finally:
            writer.close()
    return dict(Counter(tensor.kind.name for tensor in tensors))


def _general(name: str, tensors: Sequence[GgufTensor]) -> dict[str, Any]:
    kinds = Counter(tensor.kind.name for tensor in tensors)
    quantized = {kind: count for kind, count in kinds.items() if kind not in _PLAIN}
    version = {"general.quantization_version": gguf.GGML_QUANT_VERSION} if quantized else {}
    # Vectors are in float32 in every file: they do not count beside matrices in fewer bits.
    counted = quantized or {kind: count for kind, count in kinds.items() if kind != "F32"} or kinds
    kind = max(counted, key=lambda kind: counted[kind])
    return {"general.type": "model", "general.name": name, "general.file_type": int(_FILE_TYPES[kind])} | version


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        items = {int: GGUFValueType.INT32, float: GGUFValueType.FLOAT32, str: GGUFValueType.STRING}
        writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=items[type(value[0])])
        return
    kinds = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
    writer.add_key_value(key, value, kinds.get(type(value), GGUFValueType.STRING))


def _write(writer: gguf.GGUFWriter, tensors: Sequence[GgufTensor], progress: ProgressFunction | None) -> None:
    """Writes all shapes first, then one tensor after the other: only one is in memory beside the model."""
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, tensor in enumerate(tensors, 1):
        # numpy has no bfloat16; the bytes are what counts.
        writer.write_tensor_data(tensor.make().to("cpu").contiguous().view(torch.uint8).numpy())
        if progress is not None:
            progress(done, len(tensors))
