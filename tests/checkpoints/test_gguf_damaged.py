"""Damaged GGUF headers: counts, depths, offsets and types are checked before they are believed."""

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import braidlm
from braidlm.checkpoints.gguf import GgufFile
from braidlm.errors import BraidError, CheckpointError
from tests.checkpoints.gguf_files import path_of, refused

UINT32, STRING, ARRAY, UINT64 = 4, 8, 9, 10
F32 = 0


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(key: str, kind: int, raw: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + raw


def tensor(name: str, shape: tuple[int, ...], offset: int, kind: int = F32, dims: int | None = None) -> bytes:
    count = struct.pack("<I", len(shape) if dims is None else dims)
    return text(name) + count + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset)


ARCH = value("general.architecture", STRING, text("llama"))
# Three tensors of 8, 16 and 8 numbers: at bytes 0, 32 and 96.
TABLE = [tensor("a", (8,), 0), tensor("b", (16,), 32), tensor("c", (8,), 96)]


def header(
    path: Path,
    values: list[bytes] = [ARCH],  # noqa: B006 (never changed)
    tensors: list[bytes] = TABLE,
    *,
    version: int = 3,
    counts: tuple[int | None, int | None] = (None, None),
    data: int = 128,
    order: str = "<",
) -> Path:
    given = [len(part) if count is None else count for part, count in zip((tensors, values), counts)]
    raw = b"GGUF" + struct.pack(f"{order}IQQ", version, *given) + b"".join(values) + b"".join(tensors)
    path.write_bytes(raw + bytes(-len(raw) % 32 + data))
    return path


def array(count: int, kind: int, raw: bytes = b"") -> bytes:
    return value("it", ARRAY, struct.pack("<IQ", kind, count) + raw)


def test_a_whole_header_is_read(tmp_path: Path) -> None:
    """Oracle: by hand; version 2 is laid out as version 3 is."""
    for version in (2, 3):
        file = GgufFile(header(tmp_path / "file.gguf", version=version))
        assert (file.arch, file.shapes) == ("llama", {"a": (8,), "b": (16,), "c": (8,)})


def nested(depth: int) -> bytes:
    return value("it", ARRAY, struct.pack("<IQ", ARRAY, 1) * depth + struct.pack("<IQ", UINT32, 0))


VALUES: dict[str, tuple[bytes, str]] = {
    "an array of 2^40 numbers": (array(1 << 40, UINT32), "1099511627776 values of 'it' at byte"),
    "an array of 2^40 texts": (array(1 << 40, STRING), "1099511627776 values of 'it'"),
    "an array of 2^64 - 1 texts": (array((1 << 64) - 1, STRING), "18446744073709551615 values of 'it'"),
    "an array of 2^40 arrays": (array(1 << 40, ARRAY), "1099511627776 values of 'it'"),
    "arrays nested 2,000 deep": (nested(2000), "arrays in arrays of more than 4 levels"),
    "a text longer than the file": (value("it", STRING, struct.pack("<Q", 1 << 50)), "a value of 'it' at byte"),
    "a text longer than anything": (value("it", STRING, struct.pack("<Q", (1 << 64) - 1)), "a value of 'it' at byte"),
    "a text beyond the file": (array(1, STRING, struct.pack("<Q", 1 << 40)), "but only 0 lie in the file"),
    "texts that run out": (array(3, STRING, text("x") + struct.pack("<Q", 1 << 62)), "3 values of 'it'"),
    "a type that there is not": (value("it", 77, b""), "'it' is of type 77, which is not known"),
    "a type of items that there is not": (array(1, 13), "'it' is of type 13, which is not known"),
    "a key twice": (ARCH, "the key 'general.architecture' twice"),
    "a key that is no text": (struct.pack("<Q", 2) + b"\xff\xfe" + struct.pack("<II", UINT32, 1), "is not in UTF-8"),
    "an architecture that is no text": (value("general.architecture", STRING, text("a")[:-1] + b"\xff"), "in UTF-8"),
    "no alignment": (value("general.alignment", UINT32, bytes(4)), "alignment is 0, but must be a power of two"),
    "an odd alignment": (value("general.alignment", UINT32, struct.pack("<I", 48)), "alignment is 48"),
    "an alignment in words": (value("general.alignment", STRING, text("32")), "alignment is '32'"),
    "an alignment beyond the file": (value("general.alignment", UINT32, struct.pack("<I", 1 << 31)), "tensor 'a'"),
}


@pytest.mark.parametrize("name", VALUES)
def test_metadata(name: str, tmp_path: Path) -> None:
    """Oracle: the sentence says what is wrong, with the file's name."""
    raw, words = VALUES[name]
    file = header(tmp_path / "file.gguf", [raw] if "architecture" in name else [ARCH, raw])
    refused(lambda: braidlm.load(file), CheckpointError, "file.gguf is truncated, damaged or no GGUF file", words)


def test_arrays_in_arrays(tmp_path: Path) -> None:
    """Oracle: by hand: a few levels are read."""
    inner = struct.pack("<IQ", UINT32, 2) + struct.pack("<II", 5, 6)
    file = GgufFile(header(tmp_path / "file.gguf", [ARCH, array(2, ARRAY, inner + struct.pack("<IQ", STRING, 0))]))
    assert file.fields["it"] == [[5, 6], []]


TENSORS: dict[str, tuple[list[bytes], str]] = {
    "one offset twice": ([TABLE[0], tensor("b", (16,), 0)], "tensor 'b' is at byte 0"),
    "an offset moved into the one before": ([TABLE[0], TABLE[1], tensor("c", (8,), 64)], "'c' is at byte 64"),
    "an offset moved on": ([TABLE[0], tensor("b", (16,), 64)], "'b' is at byte 64 of the data"),
    "an offset not aligned": ([TABLE[0], tensor("b", (16,), 33)], "'b' is at byte 33"),
    "an offset beyond the file": ([TABLE[0], tensor("b", (16,), 1 << 60)], "'b' is at byte 1152921504606846976"),
    "two offsets exchanged": ([tensor("a", (8,), 32), tensor("b", (8,), 0)], "'a' is at byte 32"),
    "a size beyond the file": ([tensor("a", (1000,), 0)], "of shape [1000] ends"),
    "a size beyond numbers": ([tensor("a", ((1 << 63), (1 << 63), 8), 0)], "bytes beyond the file"),
    "five dimensions": ([tensor("a", (1, 1, 1, 1, 8), 0)], "tensor 'a' has 5 dimensions, but must have at most 4"),
    "2^32 - 1 dimensions": ([tensor("a", (8,), 0, dims=(1 << 32) - 1)], "has 4294967295 dimensions"),
    "a type that there is not": ([tensor("a", (8,), 0, kind=99)], "tensor 'a' is stored as type 99"),
    "a type that was taken back": ([tensor("a", (8,), 0, kind=4)], "tensor 'a' is stored as type 4"),
    "half a block": ([tensor("a", (8,), 0, kind=8)], "rows of 8 numbers, which are no whole blocks of Q8_0"),
    "a name twice": ([TABLE[0], tensor("a", (16,), 32)], "two tensors of one name"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors(name: str, tmp_path: Path) -> None:
    """Oracle: the sentence says which tensor is wrong and how; tensors lie one after the other, aligned."""
    table, words = TENSORS[name]
    file = header(tmp_path / "file.gguf", tensors=table)
    refused(lambda: braidlm.load(file), CheckpointError, "file.gguf is truncated, damaged or no GGUF file", words)


@pytest.mark.parametrize(
    "counts", [(1 << 40, None), (None, 1 << 40), ((1 << 64) - 1, (1 << 64) - 1), (4, None)], ids=str
)
def test_counts(counts: tuple[int | None, int | None], tmp_path: Path) -> None:
    """Oracle: the sentence; a count is held against the bytes that are left."""
    file = header(tmp_path / "file.gguf", counts=counts, data=0, tensors=TABLE[:1])
    refused(
        lambda: GgufFile(file), CheckpointError, "file.gguf is truncated, damaged or no GGUF file", "bytes are left"
    )


def test_other_versions(tmp_path: Path) -> None:
    """Oracle: a sentence each for the first version, the other byte order, and what is not known."""
    file = tmp_path / "file.gguf"
    refused(lambda: GgufFile(header(file, version=1)), CheckpointError, "of version 1, which is not read")
    refused(lambda: GgufFile(header(file, order=">")), CheckpointError, "is a big-endian GGUF file")
    refused(lambda: GgufFile(header(file, version=4)), CheckpointError, "version 4, but versions 2 and 3 are read")


def test_bytes_behind_the_last_tensor(tmp_path: Path) -> None:
    """Oracle: by hand: the last tensor may be filled up to where another would begin, and no further."""
    whole = header(tmp_path / "file.gguf", tensors=[tensor("a", (7,), 0)], data=28)
    assert GgufFile(whole).shapes == {"a": (7,)}
    assert GgufFile(header(whole, tensors=[tensor("a", (7,), 0)], data=32)).shapes == {"a": (7,)}
    for more in (1, 64):
        file = header(whole, tensors=[tensor("a", (7,), 0)], data=32 + more)
        refused(lambda: GgufFile(file), CheckpointError, f"it has {more} bytes behind its last tensor")  # noqa: B023


def test_what_is_no_file(tmp_path: Path) -> None:
    """Oracle: the sentence: a pipe is not waited for, a directory is none."""
    os.mkfifo(tmp_path / "pipe.gguf")
    refused(lambda: GgufFile(tmp_path / "pipe.gguf"), CheckpointError, "it is no regular file")
    refused(lambda: GgufFile(tmp_path), CheckpointError, "it is a directory")


@pytest.mark.parametrize("blocks", [0, 5, 7, 2**31, 2**32 - 1])
def test_block_counts(blocks: int, tmp_path: Path) -> None:
    """Oracle: the number of blocks that have tensors (6): another count costs no memory and loads nothing."""
    raw = path_of("granitehybrid").read_bytes()
    key = b"granitehybrid.block_count" + struct.pack("<I", UINT32)
    at = raw.index(key) + len(key)
    file = tmp_path / "file.gguf"
    file.write_bytes(raw[:at] + struct.pack("<I", blocks) + raw[at + 4 :])
    refused(lambda: braidlm.load(file), CheckpointError, f"block_count is {blocks}, but there are tensors of 6 blocks")


def changes(raw: bytes, end: int, rng: random.Random) -> bytes:
    """One or several changes to the first `end` bytes."""
    new, places = bytearray(raw), [rng.randrange(end) for _ in range(rng.choice([1, 1, 1, 2, 5]))]
    change: Callable[[int], None] = rng.choice(
        [
            lambda at: new.__setitem__(at, new[at] ^ 1 << rng.randrange(8)),
            lambda at: new.__setitem__(at, rng.randrange(256)),
            lambda at: new.__setitem__(slice(at, at + 4), struct.pack("<I", rng.choice([0, 8, 9, 1 << 31, 2**32 - 1]))),
            lambda at: new.__setitem__(
                slice(at, at + 8), struct.pack("<Q", rng.choice([0, 1 << 40, 2**63, 2**64 - 1]))
            ),
            lambda at: new.__setitem__(slice(at, at), bytes(rng.choice([1, 8, 32]))),
            lambda at: new.__delitem__(slice(at, at + rng.choice([1, 8, 32]))),
            lambda at: new.__delitem__(slice(at, None)),
        ]
    )
    for at in places:
        change(at)
    return bytes(new)


@pytest.mark.parametrize("part", ["metadata", "table"])
def test_changed_headers(part: str, tmp_path: Path) -> None:
    """Oracle: every changed file loads, or is refused in one sentence of moderate length."""
    raw, rng = path_of("mamba").read_bytes(), random.Random(part)
    end = raw.index(b"token_embd.weight") if part == "metadata" else raw.rindex(b"output_norm.weight") + 40
    file, outcomes = tmp_path / "file.gguf", set()
    for _ in range(300):
        file.write_bytes(changes(raw, end, rng))
        outcomes.add(outcome(file))
    assert outcomes == {"loads", "one sentence"}


def outcome(file: Path) -> str:
    """How loading ends."""
    try:
        braidlm.load(file)
    except BraidError as error:
        return "one sentence" if "\n" not in str(error) and len(str(error)) < 800 else str(error)
    return "loads"


def test_a_wider_alignment(tmp_path: Path) -> None:
    """Oracle: by hand; tensors begin at multiples of what the file says."""
    wide = value("general.alignment", UINT32, struct.pack("<I", 64))
    file = header(tmp_path / "wide.gguf", [ARCH, wide], [tensor("a", (3,), 0), tensor("b", (7, 5), 64)], data=256)
    assert GgufFile(file).shapes == {"a": (3,), "b": (5, 7)}
