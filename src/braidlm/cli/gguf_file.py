"""GGUF files as targets of commands: how the source has its weights, what is written, what is said about it."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..api.language_model import LanguageModel
from ..api.places import resolve
from ..checkpoints.directory import largest_dtype, open_directory
from ..checkpoints.gguf import GgufFile
from ..checkpoints.gguf_export import DTYPES, EXACT, export_gguf
from ..errors import InputError
from ..system.dtypes import long_name, name_of
from ..system.progress_bar import progress
from .common import err

SUFFIX = ".gguf"


class StoredWeights(NamedTuple):
    """Storage of a checkpoint's weights, and what a GGUF file says beside them.

    dtype: of matrices that are not quantized; None if it is none that GGUF files have. quantized: storage types of the
    quantized tensors of a GGUF file.
    """

    dtype: str | None
    quantized: tuple[str, ...]
    name: str


def check_dtype(name: str) -> str:
    """The long name of a dtype that matrices of GGUF files can have; `InputError` if it is none."""
    long = long_name(name)
    if long not in DTYPES:
        raise InputError(f"--dtype is {name!r}, but a GGUF file's matrices must be one of {', '.join(DTYPES)}")
    return long


def stored_as(model: str, *, allow_pickle: bool) -> StoredWeights:
    """Storage of the weights of the checkpoint that `model` stands for."""
    path = resolve(model, allow_pickle=allow_pickle)
    if path.is_file():
        return _stored_in_file(GgufFile(path), Path(model).stem)
    source = open_directory(path, allow_pickle=allow_pickle)
    dtype = name_of(largest_dtype(source, source.names()) or torch.float32)
    return StoredWeights(dtype if dtype in DTYPES else None, (), Path(model).name)


def _stored_in_file(file: GgufFile, stem: str) -> StoredWeights:
    kinds = {name: file.quantization(name) for name in file.names() if len(file.shapes[name]) > 1}
    plain = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    quantized = tuple(sorted({kind for kind in kinds.values() if kind not in plain}))
    # What is small is in float32 whatever the model is in: one narrow matrix tells.
    narrow = sorted({plain[kind] for kind in kinds.values() if kind in plain} - {"float32"})
    name = file.fields.get("general.name")
    dtype = narrow[0] if len(narrow) == 1 else "float32"
    return StoredWeights(dtype, quantized, name if isinstance(name, str) else stem)


def write_gguf(
    language: LanguageModel,
    target: Path,
    stored: StoredWeights,
    *,
    dtype: str | None,
    dequantize: bool = False,
    with_tokenizer: bool = True,
) -> dict[str, Any]:
    """Writes a model, with its tokenizer unless that is not wanted, and gives what there is to say about the file."""
    tokenizer = language.tokenizer if with_tokenizer else None
    if with_tokenizer and tokenizer is None:
        err.print(f"braid: {stored.name} has no tokenizer, and so {target.name} has none", markup=False)
    with progress(f"writing {target.name}") as step:
        types = export_gguf(
            language.network,
            target,
            dtype,
            step,
            tokenizer=tokenizer,
            ends=language.origin.ends,
            name=stored.name,
            dequantize=dequantize,
        )
    return {
        "directory": str(target.parent),
        "format": "gguf",
        "files": [target.name],
        "bytes": target.stat().st_size,
        "types": types,
        "tokenizer": tokenizer is not None,
    }


def note_rounding(stored: StoredWeights, target: Path) -> None:
    """Says that quantized tensors of types that cannot be kept bit for bit are rounded."""
    others = [kind for kind in stored.quantized if kind not in EXACT]
    if others:
        err.print(
            f"braid: weights in {', '.join(others)} are rounded to Q4_1 (from Q4_K) or Q8_0 (from others) in "
            f"{target.name}; --dtype float32 writes them exactly",
            markup=False,
        )
