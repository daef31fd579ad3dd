"""Lists in options: names or numbers separated by commas."""

from typing import Any

from ..errors import InputError


def names_of(text: str, option: str) -> list[str]:
    """The names in a list, each once; `InputError` if there is none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"{option} is empty; give names separated by commas")
    return list(dict.fromkeys(parts))


def numbers_of(text: str, option: str, kind: type) -> list[Any]:
    """The numbers of a list, each once, as `kind` reads them; `InputError` if one is none."""
    try:
        return list(dict.fromkeys(kind(part) for part in names_of(text, option)))
    except ValueError:
        raise InputError(f"{option} is {text!r}, but must be numbers separated by commas") from None
