"""Numbers and tables for people: bytes, counts, aligned lines."""

import re
from collections.abc import Sequence
from fractions import Fraction

from ..errors import InputError

_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(count: float) -> str:
    """Bytes for people: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def bytes_of(text: str) -> int:
    """Number of bytes of `4GiB`, `512M` or a plain number, exactly; a part of a byte is left out."""
    found = re.fullmatch(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise InputError(f"{text!r} is no amount of memory; write 4GiB, 512MiB or a number of bytes")
    return int(Fraction(found[1]) * _BYTES[found[2].upper()])


def bytes_text(count: int) -> str:
    """A number of bytes as `bytes_of` reads it, exactly: 4GiB."""
    for name, unit in reversed(_BYTES.items()):
        if name and count and count % unit == 0:
            return f"{count // unit}{name}iB"
    return str(count)


def amount(count: float) -> str:
    """Numbers of parameters for people: 134.5 M."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count:.0f}"


def aligned(title: str, lines: Sequence[tuple[str, str]]) -> str:
    """A title, and below it each name with its value, in two columns."""
    wide = max(len(name) for name, _ in lines)
    return "\n".join([title, *(f"  {name:<{wide}}  {value}" for name, value in lines)])
