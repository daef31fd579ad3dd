"""Damage to what a format says in words: keys of GGUF files, headers of safetensors files, JSON."""

import random
import struct

from braidlm.checkpoints.gguf.header import _Cursor

from .json_mutators import misspelt, mutate_json


def mutate(suffix: str, raw: bytes, rng: random.Random) -> bytes | None:
    """A file of this suffix with one thing changed; None where nothing is known of the format."""
    if suffix == ".json":
        return mutate_json(raw, rng)
    if suffix == ".gguf":
        return _mutate_gguf(raw, rng)
    if suffix in (".safetensors", ".session"):
        size = 8 + struct.unpack("<Q", raw[:8])[0]
        header = mutate_json(raw[8:size], rng)
        return struct.pack("<Q", len(header)) + header + raw[size:]
    return None


def _mutate_gguf(raw: bytes, rng: random.Random) -> bytes:
    """A key that is misspelt, or a value of another type."""
    at = _Cursor(memoryview(raw), 16)  # type: ignore[arg-type]
    values, entries = at.number("<Q"), []
    for _ in range(values):
        begin, key = at.position, at.string()
        entries.append((begin, key, at.position, at.skip_value(key).kind, at.position))
    begin, key, type_at, _, end = rng.choice(entries)
    if rng.random() < 0.6:
        new = misspelt(key, rng).encode()
        return raw[:begin] + struct.pack("<Q", len(new)) + new + raw[type_at:]
    value = rng.choice((_scalar(7, b"\1"), _scalar(4, b"\7\0\0\0"), _scalar(6, b"\0\0\xc0\x7f"), _text("x"), _list()))
    return raw[:type_at] + value + raw[end:]


def _scalar(kind: int, value: bytes) -> bytes:
    return struct.pack("<I", kind) + value


def _text(value: str) -> bytes:
    return struct.pack("<IQ", 8, len(value)) + value.encode()


def _list() -> bytes:
    return struct.pack("<IIQ", 9, 4, 2) + bytes(8)
