"""GGUF files for tests: llama.cpp's own, and made ones."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from braidlm.errors import BraidError

GOLDEN = Path(__file__).parents[1] / "golden"

Tensors = Mapping[str, np.ndarray | tuple[np.ndarray, Kind]]


def path_of(name: str) -> Path:
    return GOLDEN / "gguf" / f"{name}.gguf"


def write(path: Path, arch: str, metadata: Mapping[str, tuple[Any, Any]], tensors: Tensors) -> Path:
    """A GGUF file; a tensor is numbers, or bytes and what they are."""
    writer = gguf.GGUFWriter(path, arch)
    for key, (value, kind) in metadata.items():
        writer.add_key_value(key, value, kind)
    for name, tensor in tensors.items():
        if isinstance(tensor, tuple):
            writer.add_tensor(name, tensor[0], raw_dtype=tensor[1])
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def parts(name: str) -> tuple[str, dict[str, tuple[Any, Any]], dict[str, Any]]:
    """Architecture, metadata and tensors of one of llama.cpp's files."""
    reader = gguf.GGUFReader(path_of(name))
    fields = {key: (field.contents(), field.types[0]) for key, field in reader.fields.items()}
    arch, _ = fields.pop("general.architecture")
    own = {key: value for key, value in fields.items() if not key.startswith("GGUF.")}
    return arch, own, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def refused(act: Callable[[], Any], kind: type[BraidError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        act()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
