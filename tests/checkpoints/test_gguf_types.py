"""Every storage type of the gguf package: read, kept in few bits, or refused by name."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from braidlm.checkpoints.gguf import GgufFile
from braidlm.checkpoints.gguf_quantized import is_quantized, keep
from braidlm.errors import CheckpointError
from braidlm.families.names import rename
from braidlm.ops import dispatch
from tests.checkpoints.gguf_files import refused, write
from tests.tolerances import RELATIVE_INT8_STEP

PLAIN = {Kind.F64, Kind.F32, Kind.F16, Kind.BF16, Kind.I8, Kind.I16, Kind.I32, Kind.I64}


def readable(kind: Kind) -> bool:
    """Whether the package can read a type; those of activations alone it cannot, and new ones it cannot yet."""
    try:
        gguf.dequantize(np.zeros(gguf.quant_shape_to_byte_shape((1, 256), kind), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


READ = [kind for kind in Kind if kind not in PLAIN and readable(kind)]
UNREAD = [kind for kind in Kind if kind not in PLAIN and not readable(kind)]
AS_THEY_ARE = {Kind.Q8_0: "int8", Kind.Q4_0: "int4", Kind.Q4_1: "int4-low"}


def stored(kind: Kind, rows: int = 4, columns: int = 512) -> np.ndarray:
    """Random blocks, in which half-precision numbers are below 2."""
    size = gguf.quant_shape_to_byte_shape((rows, columns), kind)
    raw = np.random.default_rng(int(kind)).integers(0, 60, size, dtype=np.uint8)
    if kind == Kind.MXFP4:  # the first byte of a block is a power of two, less 127
        raw.reshape(rows, -1, 17)[..., 0] %= 16
        raw.reshape(rows, -1, 17)[..., 0] += 116
    return raw


def test_the_usual_types_are_read() -> None:
    """Oracle: what people have: every type that llama-quantize offers."""
    usual = (
        "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS"
    )
    assert {kind.name for kind in READ} >= {*usual.split(), "TQ1_0", "TQ2_0", "MXFP4"}


@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.name)
def test_types_that_are_read(kind: Kind, tmp_path: Path) -> None:
    """Oracle: gguf.dequantize of the same bytes: bit for bit, and half a step of int8 off where it is kept so."""
    raw = stored(kind)
    file = GgufFile(write(tmp_path / "file.gguf", "llama", {}, {"t": (raw, kind)}))
    expected = torch.from_numpy(gguf.dequantize(raw, kind))
    assert is_quantized(file, "t") and file.quantization("t") == kind.name
    assert torch.equal(file.get("t"), expected) and bool(expected.any()) and bool(expected.isfinite().all())
    (found,) = keep(file, rename("t", "w"), ("t",), [torch.Size((4, 512))], torch.float32) or ()
    if kind == Kind.Q4_K:  # see test_gguf_packed
        assert found.kind == "int4-low"
        return
    assert found.kind == AS_THEY_ARE.get(kind, "int8")
    error = (found.dequantize() - expected).unflatten(-1, (-1, 32)).abs().amax(-1)
    largest = expected.unflatten(-1, (-1, 32)).abs().amax(-1)
    # A scale in half precision is off by 2^-25 at least.
    most = 0 if kind in AS_THEY_ARE else RELATIVE_INT8_STEP * largest + 128 * 2.0**-25
    assert bool((error <= most).all())


@pytest.mark.parametrize("kind", UNREAD, ids=lambda kind: kind.name)
def test_types_that_are_not_read(kind: Kind, tmp_path: Path) -> None:
    """Oracle: the sentence names the tensor and its type."""
    file = GgufFile(write(tmp_path / "file.gguf", "llama", {}, {"t": (stored(kind), kind)}))
    refused(lambda: file.get("t"), CheckpointError, "tensor t is stored as", kind.name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", [*AS_THEY_ARE, Kind.Q6_K], ids=lambda kind: kind.name)
@pytest.mark.parametrize("ops", ["auto", "reference"])
def test_rows_in_another_order(kind: Kind, dtype: torch.dtype, ops: str, tmp_path: Path) -> None:
    """Oracle: gguf.dequantize of the same bytes, rows taken, rounded by torch: to the sign of zeros."""
    raw = stored(kind, rows=40)
    raw.reshape(40, -1)[::2, 1] ^= 128  # the sign of a scale
    file = GgufFile(write(tmp_path / "file.gguf", "llama", {}, {"t": (raw, kind)}))
    rows = np.random.default_rng(0).permutation(40)[:33]
    found = torch.full((33, 512), torch.nan, dtype=dtype)
    with dispatch.using(ops):
        file.dequantize("t", found, rows)
    expected = torch.from_numpy(gguf.dequantize(raw, kind))[torch.from_numpy(rows)].to(dtype)
    assert found.view(torch.uint8).numpy().tobytes() == expected.view(torch.uint8).numpy().tobytes()
