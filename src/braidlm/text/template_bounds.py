"""Bounds on operators, methods and filters of a template: each pays for its result before that is made."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2.sandbox import SandboxedEscapeFormatter, SandboxedFormatter

from .template_meter import METER, BoundError, Meter

_WIDTH = 1000
_NUMBER = re.compile(r"\d+")
_SPEC = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?[hlL]?[a-zA-Z%]")
# Methods that make much of little, and that no chat needs.
_REFUSED = ("translate", "maketrans", "fromkeys", "to_bytes", "from_bytes")
_PADDING = ("center", "ljust", "rjust", "zfill", "expandtabs")
# Filters whose numbers are lengths, widths or counts, and those that look at each character or item in Python.
_SIZED = ("center", "indent", "wordwrap", "truncate", "batch", "slice", "urlize", "round")
_SLOW = ("wordwrap", "urlize", "striptags", "xmlattr", "pprint", "urlencode", "tojson", "title", "indent")
_DEEP = ("tojson", "string", "format", "pprint", "unique", "groupby", "sort", "min", "max", "dictsort", "urlencode")
_BY_NAME = ("map", "selectattr", "rejectattr", "sort", "groupby", "unique", "min", "max", "sum", "attr", "join")


def binary(meter: Meter, sign: str, left: Any, right: Any) -> None:
    """Pays for `left sign right`."""
    meter.spend(1)
    meter.whole(left)
    meter.whole(right)
    if sign == "%" and isinstance(left, str):
        percent_format(meter, left, right)
    elif sign == "+" and _has_length(left) and _has_length(right):
        meter.allow(_length(left) + _length(right))
    elif sign == "*":
        _times(meter, left, right)
    elif sign == "**" and isinstance(left, int) and isinstance(right, int):
        _power(left, right)


def _power(left: int, right: int) -> None:
    if left.bit_length() * abs(right) > 1 << 12:
        raise BoundError("makes a number of thousands of digits")


def _times(meter: Meter, left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if _has_length(many) and isinstance(times, int):
            meter.allow(_length(many) * max(times, 0))


def _has_length(value: Any) -> bool:
    return isinstance(value, str | bytes | list | tuple)


def _length(value: Any) -> int:
    return len(value) * (1 if isinstance(value, str | bytes) else 16)


def percent_format(meter: Meter, pattern: str, values: Any) -> None:
    """Pays for `pattern % values`."""
    specs = _SPEC.findall(pattern)
    for width, precision in specs:
        if "*" in (width, precision) or any(len(n) > 3 for n in (width, precision)):
            raise BoundError(f"formats a value to a width above {_WIDTH}")
    largest = meter.weigh(values)
    meter.allow(len(pattern) + len(specs) * (largest + _WIDTH))


def joined(meter: Meter, separator: str, items: Sequence[Any]) -> None:
    """Pays for the texts of `items` with a separator between them."""
    total = len(separator) * len(items)
    for item in items:
        meter.spend(1)
        total += len(item) if isinstance(item, str) else meter.weigh(item)
        if total > meter.most:
            break
    meter.allow(total)


def replaced(meter: Meter, text: str, old: str, new: str) -> None:
    """Pays for all of `old` in a text replaced by `new`."""
    meter.allow(len(text))
    meter.allow(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def compared(meter: Meter, sign: str, left: Any, right: Any) -> None:
    """Pays for a comparison."""
    if sign in ("in", "notin"):
        size = len(left) if isinstance(left, str) else meter.weigh(left)
        if isinstance(right, str):
            meter.spend((len(right) >> 8) + 1)
        elif isinstance(right, list | tuple):
            meter.spend(len(right) * (1 + (size >> 8)) + 1)
    elif isinstance(left, str) and isinstance(right, str):
        meter.spend((min(len(left), len(right)) >> 8) + 1)
    else:
        meter.weigh(left)
        meter.weigh(right)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}


def compare(left: Any, *rest: Any) -> Any:
    """Compares `left sign right`, or a chain of more signs and values, paid for."""
    meter, found = METER.get(), True
    for sign, right in zip(rest[::2], rest[1::2]):
        compared(meter, sign, left, right)
        found = _OPERATORS[sign](left, right)
        if not found:
            break
        left = right
    return found


def method(meter: Meter, owner: Any, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Pays for a call of a built-in method of `owner`; gives its arguments, iterated ones as a list."""
    if name in _REFUSED:
        raise BoundError(f"calls {name}, which chats do not need")
    meter.allow(_length(owner) if _has_length(owner) else 0)
    if isinstance(owner, str) and name in _PADDING:
        widths = [arg for arg in args if isinstance(arg, int)]
        tabs = owner.count("\t") if name == "expandtabs" else 1
        meter.allow(len(owner) + tabs * max(widths, default=8))
    elif isinstance(owner, str) and name == "replace" and len(args) >= 2:
        replaced(meter, owner, str(args[0]), str(args[1]))
    elif isinstance(owner, str) and name == "join" and args:
        items = list(args[0])
        joined(meter, owner, items)
        return (items, *args[1:])
    elif name in ("index", "count", "remove") and args and isinstance(owner, list | tuple):
        compared(meter, "in", args[0], owner)
    else:
        for arg in args:
            meter.weigh(arg)
    return args


def filtered(meter: Meter, name: str, value: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """Pays for a filter on `value`; gives the value, an iterated one as a list where all of it is looked at."""
    given = [*args, *options.values()]
    if name in _SIZED and any(isinstance(number, int | float) and abs(number) > _WIDTH for number in given):
        raise BoundError(f"gives the filter {name} a number above {_WIDTH}")
    if name in _BY_NAME:
        names = [*args[:1], options.get("attribute")]
        if any(isinstance(text, str) and len(text) > _WIDTH for text in names) and name != "join":
            raise BoundError(f"gives the filter {name} a name of more than {_WIDTH} characters")
    if name in (*_DEEP, "join", "sum", "list") and not isinstance(value, str | Mapping) and hasattr(value, "__iter__"):
        value = value if isinstance(value, list | tuple) else list(value)
    meter.spend(3)
    size = meter.weigh(value) if name in _DEEP else _length(value) if _has_length(value) else 0
    meter.allow(size * (16 if name in _SLOW else 1))
    _one_filter(meter, name, value, args, options)
    return value


def _one_filter(meter: Meter, name: str, value: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    if name == "replace":
        old, new = (args[i] if len(args) > i else options.get(key, "") for i, key in enumerate(("old", "new")))
        replaced(meter, str(value), str(old), str(new))
    elif name == "join":
        separator = str(args[0] if args else options.get("d", ""))
        joined(meter, separator, value if isinstance(value, list | tuple | str) else list(value))
    elif name == "format":
        percent_format(meter, str(value), dict(options) or args)
    elif name == "indent" and isinstance(value, str):
        width = next((text for text in (*args, *options.values()) if isinstance(text, str)), " " * 64)
        meter.allow((value.count("\n") + 1) * len(width))
    elif name == "tojson":
        _json(meter, value, options.get("indent", args[1] if len(args) > 1 else None))
    elif name == "int" and isinstance(value, str) and len(value) > _WIDTH:
        raise BoundError("reads a number of thousands of digits")
    elif name == "sum" and not all(isinstance(start, int | float) for start in (*args[1:2], options.get("start", 0))):
        raise BoundError("adds up what are no numbers")


def _json(meter: Meter, value: Any, indent: Any) -> None:
    """Pays for JSON with its line ends: at most as many levels as Python goes down."""
    width = len(indent) if isinstance(indent, str) else indent if isinstance(indent, int) else 0
    if width > 32:
        raise BoundError("indents JSON by more than 32 characters")
    if width:
        meter.allow(meter.weigh(value) // 16 * width * 4)


class _Bounded:
    """Base of `str.format` that pays for each field."""

    _total = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        """Formats one field, paid for."""
        if any(len(number) > 3 for number in _NUMBER.findall(format_spec)):
            raise BoundError(f"formats a value to a width above {_WIDTH}")
        meter = METER.get()
        self._total += meter.weigh(value) + _WIDTH * bool(format_spec)
        meter.allow(self._total)
        return super().format_field(value, format_spec)  # type: ignore[misc]

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """Converts a field's value (`!s`, `!r`), paid for."""
        if conversion is not None:
            METER.get().weigh(value)
        return super().convert_field(value, conversion)  # type: ignore[misc]


class BoundedFormatter(_Bounded, SandboxedFormatter):
    """Bounded `str.format` of plain texts."""


class BoundedEscapeFormatter(_Bounded, SandboxedEscapeFormatter):
    """Bounded `str.format` of marked-up texts."""
