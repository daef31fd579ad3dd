"""Mutators: ways to damage one file, each a function of its bytes or its place and of a source of chance."""

import os
import random
from collections.abc import Callable
from pathlib import Path

Bytes = Callable[[bytes, random.Random], bytes]

_NUMBERS = (0, 1, 8, 9, 127, 255, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, (1 << 64) - 1)


def _flip(raw: bytes, rng: random.Random) -> bytes:
    new = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = _place(raw, rng)
        new[at] ^= 1 << rng.randrange(8)
    return bytes(new)


def _overwrite(raw: bytes, rng: random.Random) -> bytes:
    at, size = _place(raw, rng), rng.choice((1, 4, 8))
    return raw[:at] + (rng.choice(_NUMBERS) % (1 << 8 * size)).to_bytes(size, "little") + raw[at + size :]


def _truncate(raw: bytes, rng: random.Random) -> bytes:
    return raw[: rng.choice((0, 1, 7, _place(raw, rng), len(raw) - 1))]


def _grow(raw: bytes, rng: random.Random) -> bytes:
    return raw + rng.choice((b"\0", b"\0" * 64, b"{}", rng.randbytes(100)))


def _insert(raw: bytes, rng: random.Random) -> bytes:
    at = _place(raw, rng)
    return raw[:at] + rng.randbytes(rng.choice((1, 8, 64))) + raw[at:]


def _remove(raw: bytes, rng: random.Random) -> bytes:
    at = _place(raw, rng)
    return raw[:at] + raw[at + rng.choice((1, 8, 64)) :]


def _swap(raw: bytes, rng: random.Random) -> bytes:
    size = rng.choice((1, 8, 32))
    one, two = sorted((_place(raw, rng), _place(raw, rng)))
    if two < one + size or two + size > len(raw):
        return _flip(raw, rng)
    return raw[:one] + raw[two : two + size] + raw[one + size : two] + raw[one : one + size] + raw[two + size :]


def _duplicate(raw: bytes, rng: random.Random) -> bytes:
    at, size = _place(raw, rng), rng.choice((1, 8, 32, 200))
    return raw[: at + size] + raw[at : at + size] + raw[at + size :]


def _zero(raw: bytes, rng: random.Random) -> bytes:
    at, size = _place(raw, rng), rng.choice((8, 64, 4096))
    return raw[:at] + bytes(len(raw[at : at + size])) + raw[at + size :]


def _place(raw: bytes, rng: random.Random) -> int:
    """A place, more often near the beginning, where headers are."""
    most = max(len(raw) - 1, 0)
    return min(rng.randrange(rng.choice((32, 512, 4096, most + 1))), most)


BYTES: tuple[Bytes, ...] = (
    _flip,
    _flip,
    _flip,
    _overwrite,
    _truncate,
    _grow,
    _insert,
    _remove,
    _swap,
    _duplicate,
    _zero,
)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def _dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _circle(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def _linked(file: Path) -> None:
    """A link to the file elsewhere, as caches have them: nothing is lost."""
    other = file.with_name(f"moved-{file.name}.x")
    file.rename(other)
    file.symlink_to(other.name)


PLACES: tuple[Callable[[Path], None], ...] = (_empty, _directory, _pipe, _device, _dangling, _circle, _linked)
