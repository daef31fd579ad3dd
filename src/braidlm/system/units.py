"""Numbers and tables for people: bytes, counts, aligned lines."""

from collections.abc import Sequence


def size(count: float) -> str:
    """Bytes for people: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


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
