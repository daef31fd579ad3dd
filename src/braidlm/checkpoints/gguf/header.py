"""Header of a GGUF file: metadata and the table of tensors, checked before anything is believed.

Layout (versions 2 and 3, little-endian): "GGUF", version, number of tensors, number of metadata values; each value a
key, a type and its bytes; each tensor a name, dimensions (columns first), a storage type and an offset from the first
aligned byte after the table. A string is its length in 8 bytes and UTF-8; an array is a type, a count and its values.

Counts are held against the bytes that are left, arrays nest a few levels at most, and tensors must lie one after the
other, aligned, as every writer of these files places them: so a damaged file costs neither time nor memory.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType, GGUFValueType

from ...errors import CheckpointError, quoted
from ...system.files import regular_file
from .strings import decode_strings, string_ends

MAGIC = b"GGUF"
VERSIONS = (2, 3)

_SCALARS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
}
_KINDS = {int(kind): kind for kind in GGUFValueType}
_STORAGE = {int(kind): kind for kind in GGMLQuantizationType}
_DEEPEST = 4
_DIMENSIONS = 4
_LENGTH_BYTES = 8
# The fewest bytes of a metadata value, a tensor's entry, and an array in an array.
_LEAST_VALUE, _LEAST_TENSOR, _LEAST_ARRAY = 13, 24, 12


class TensorEntry(NamedTuple):
    """Entry of the table of tensors: its storage type, its shape (rows first) and its bytes in the file."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    begin: int
    nbytes: int


class _ValueStart(NamedTuple):
    """Type of a metadata value, and the byte where it begins."""

    kind: GGUFValueType
    begin: int


class Damaged(Exception):  # noqa: N818 (a reason on its way to the sentence, never seen by a caller)
    """Error in a file, as the end of a sentence."""


class GgufHeader:
    """Header of one file, which is mapped privately: its bytes may be written to, the file is not.

    `tensors` are in the file's order.
    """

    def __init__(self, path: Path) -> None:
        """Raises `CheckpointError` for a file that is missing, of another kind, or damaged."""
        self.path = path
        try:
            self.data = np.memmap(regular_file(path), np.uint8, "c")
        except FileNotFoundError:
            raise CheckpointError(f"the GGUF file {path} does not exist") from None
        except (OSError, ValueError) as error:  # numpy maps no empty file
            raise _refusal(path, error) from None
        try:
            self._read()
        except Damaged as error:
            raise _refusal(path, error) from None

    def _read(self) -> None:
        ends: dict[int, list[int]] = {}
        at = _Cursor(self.data, 0, ends)
        self._check_version(at)
        tensors, values = at.number("<Q"), at.number("<Q")
        at.require(tensors * _LEAST_TENSOR + values * _LEAST_VALUE, f"{tensors} tensors and {values} values")
        starts: dict[str, _ValueStart] = {}
        for _ in range(values):
            key = at.string()
            if key in starts:
                raise Damaged(f"it has the key {quoted(key)} twice")
            starts[key] = at.skip_value(key)
        self.fields: Mapping[str, Any] = _Fields(self, starts, ends)
        self.tensors = dict(self._table(at, tensors))

    def _check_version(self, at: "_Cursor") -> None:
        if bytes(self.data[:4]) != MAGIC:
            raise Damaged("it does not begin with 'GGUF'")
        at.skip(4)
        version = at.number("<I")
        if version == 1:
            raise CheckpointError(f"{self.path} is a GGUF file of version 1, which is not read; convert the model anew")
        if version & 0xFFFF == 0:
            raise CheckpointError(f"{self.path} is a big-endian GGUF file; only little-endian ones are read")
        if version not in VERSIONS:
            raise Damaged(f"it says that it is of version {version}, but versions 2 and 3 are read")

    def _table(self, at: "_Cursor", count: int) -> Iterator[tuple[str, TensorEntry]]:
        entries = [_entry(at) for _ in range(count)]
        if len({name for name, *_ in entries}) < count:
            raise Damaged("it has two tensors of one name")
        alignment = self._alignment()
        first, expected = _aligned(at.position, alignment), 0
        for name, kind, shape, offset in entries:
            if offset != expected:
                raise Damaged(
                    f"tensor {quoted(name)} is at byte {offset} of the data, but the one before ends at {expected}"
                )
            begin, nbytes = first + offset, _nbytes(name, kind, shape)
            if begin + nbytes > len(self.data):
                missing = begin + nbytes - len(self.data)
                raise Damaged(f"tensor {quoted(name)} of shape {list(shape)} ends {missing} bytes beyond the file")
            yield name, TensorEntry(kind, shape, begin, nbytes)
            expected = _aligned(offset + nbytes, alignment)
        if (more := len(self.data) - first - expected) > 0:
            raise Damaged(f"it has {more} bytes behind its last tensor, as if something had been put in before")

    def _alignment(self) -> int:
        found = self.fields.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(found, int) or found < 8 or found & (found - 1):
            raise Damaged(f"its general.alignment is {quoted(found)}, but must be a power of two from 8")
        return found

    def bytes_of(self, name: str) -> np.ndarray:
        """Bytes of a tensor, as a view."""
        entry = self.tensors[name]
        return np.asarray(self.data[entry.begin : entry.begin + entry.nbytes])


def _refusal(path: Path, why: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is truncated, damaged or no GGUF file: {why}")


def _entry(at: "_Cursor") -> tuple[str, GGMLQuantizationType, tuple[int, ...], int]:
    """Name, storage type, shape and offset of the next tensor in the table."""
    name, dimensions = at.string(), at.number("<I")
    if dimensions > _DIMENSIONS:
        raise Damaged(f"tensor {quoted(name)} has {dimensions} dimensions, but must have at most {_DIMENSIONS}")
    shape = tuple(reversed([at.number("<Q") for _ in range(dimensions)]))
    kind = at.number("<I")
    if kind not in _STORAGE:
        raise Damaged(f"tensor {quoted(name)} is stored as type {kind}, which is not known")
    return name, _STORAGE[kind], shape, at.number("<Q")


def _nbytes(name: str, kind: GGMLQuantizationType, shape: tuple[int, ...]) -> int:
    block, size = GGML_QUANT_SIZES[kind]
    if shape and shape[-1] % block:
        raise Damaged(
            f"tensor {quoted(name)} has rows of {shape[-1]} numbers, which are no whole blocks of {kind.name}"
        )
    return math.prod(shape) // block * size


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _text(raw: memoryview) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise Damaged(f"the text {quoted(bytes(raw[:40]))} is not in UTF-8") from None


class _Cursor:
    """Cursor in a file's bytes that never leaves them."""

    def __init__(self, data: np.ndarray, position: int = 0, ends: dict[int, list[int]] | None = None) -> None:
        """`ends` are those of strings that were skipped, by their position, for the cursor that reads them."""
        self._bytes = memoryview(data)  # type: ignore[arg-type]  # numpy's stubs do not say that arrays are buffers
        self._ends = {} if ends is None else ends
        self.position = position

    def require(self, count: int, what: str) -> None:
        """Refuses what takes more bytes than are left."""
        left = len(self._bytes) - self.position
        if count > left:
            raise Damaged(f"it says that it has {what} at byte {self.position}, but only {left} bytes are left")

    def skip(self, count: int, what: str = "values") -> None:
        """Skips so many bytes."""
        self.require(count, what)
        self.position += count

    def number(self, layout: str) -> Any:
        """The next number, in a format of `struct`."""
        begin = self.position
        self.skip(struct.calcsize(layout), "a number")
        return struct.unpack_from(layout, self._bytes, begin)[0]

    def string(self) -> str:
        """The next string."""
        length = self.number("<Q")
        begin = self.position
        self.skip(length, f"a text of {length} bytes")
        return _text(self._bytes[begin : begin + length])

    def strings(self, count: int) -> list[str]:
        """The next `count` strings, which were skipped before."""
        begin = self.position
        ends = self._ends.pop(begin) if begin in self._ends else string_ends(self._bytes, begin, count)
        self.position = ends[-1] if ends else begin
        try:
            return decode_strings(self._bytes, begin, ends)
        except UnicodeDecodeError:
            return [_text(self._bytes[at + _LENGTH_BYTES : end]) for at, end in pairwise([begin, *ends])]

    def kind(self, key: str) -> GGUFValueType:
        """The next type of a value."""
        kind = self.number("<I")
        if kind not in _KINDS:
            raise Damaged(f"the value of {quoted(key)} is of type {kind}, which is not known")
        return _KINDS[kind]

    def skip_value(self, key: str, depth: int = 0) -> _ValueStart:
        """Passes over one value with its type, all of which lies within the file."""
        kind = self.kind(key)
        start = _ValueStart(kind, self.position)
        self._skip_values(key, kind, 1, depth)
        return start

    def _skip_values(self, key: str, kind: GGUFValueType, count: int, depth: int) -> None:
        what = f"{count} values of {quoted(key)}" if count > 1 else f"a value of {quoted(key)}"
        if kind in _SCALARS:
            self.skip(count * np.dtype(_SCALARS[kind]).itemsize, what)
        elif kind == GGUFValueType.STRING:
            self._skip_strings(count, what)
        else:
            self.require(count * _LEAST_ARRAY, what)
            if depth == _DEEPEST:
                raise Damaged(f"the value of {quoted(key)} is arrays in arrays of more than {_DEEPEST} levels")
            for _ in range(count):
                inner = self.kind(key)
                self._skip_values(key, inner, self.number("<Q"), depth + 1)

    def _skip_strings(self, count: int, what: str) -> None:
        self.require(count * _LENGTH_BYTES, what)
        ends = string_ends(self._bytes, self.position, count)
        there = sum(end <= len(self._bytes) for end in ends)
        if there < count:
            raise Damaged(f"it says that it has {what} at byte {self.position}, but only {there} lie in the file")
        self._ends[self.position] = ends
        self.skip(ends[-1] - self.position if ends else 0, what)

    def values(self, kind: GGUFValueType, count: int) -> list[Any]:
        """The next `count` values as plain Python ones."""
        if kind == GGUFValueType.STRING:
            return self.strings(count)
        if kind == GGUFValueType.ARRAY:
            return [self.values(self.kind(""), self.number("<Q")) for _ in range(count)]
        begin, dtype = self.position, np.dtype(_SCALARS[kind])
        self.skip(count * dtype.itemsize)
        found: list[Any] = np.frombuffer(self._bytes, dtype, count, begin).tolist()
        return found


class _Fields(Mapping[str, Any]):
    """Metadata as plain values, each read when asked for and then kept: tables of tokens are large."""

    def __init__(self, header: GgufHeader, starts: Mapping[str, _ValueStart], ends: dict[int, list[int]]) -> None:
        self._header = header
        self._ends = ends
        self._starts = starts
        self._read: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._read:
            kind, begin = self._starts[key]
            try:
                self._read[key] = _Cursor(self._header.data, begin, self._ends).values(kind, 1)[0]
            except Damaged as error:
                raise _refusal(self._header.path, error) from None
        return self._read[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._starts)

    def __len__(self) -> int:
        return len(self._starts)
