"""Validation of a spec's fields, with messages that say what would be right."""

from typing import Any

from ..errors import SpecError
from ..system.settings import is_finite, is_whole


def require(ok: bool, what: str, value: Any, right: str) -> None:
    """Raises `SpecError` naming the field `what`, its `value` and what would be `right`."""
    if not ok:
        raise SpecError(f"{what} is {value!r}, but must be {right}")


def positive(owner: Any, *names: str) -> None:
    """Requires fields of `owner` to be whole numbers above zero."""
    for name in names:
        value = getattr(owner, name)
        require(is_whole(value) and value > 0, f"{type(owner).__name__}.{name}", value, "a positive whole number")


def countable(owner: Any, *names: str) -> None:
    """Requires fields of `owner` to be whole numbers, zero or more."""
    for name in names:
        value = getattr(owner, name)
        require(is_whole(value) and value >= 0, f"{type(owner).__name__}.{name}", value, "a whole number, zero or more")


def finite(owner: Any, *names: str) -> None:
    """Requires fields of `owner` to be finite numbers above zero."""
    for name in names:
        value = getattr(owner, name)
        require(is_finite(value) and value > 0, f"{type(owner).__name__}.{name}", value, "a positive finite number")


def of_kind(owner: Any, name: str, *kinds: type) -> None:
    """Requires a field of `owner` to be an object of one of `kinds`."""
    value = getattr(owner, name)
    names = " or ".join("none" if kind is type(None) else kind.__name__ for kind in kinds)
    require(isinstance(value, kinds), f"{type(owner).__name__}.{name}", value, f"of kind {names}")
