"""Tool calls as values: a function that may be called, a call, and what a reader has found."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from json import JSONDecoder
from typing import Any, NamedTuple

# Arguments that are a text which holds JSON; more layers than this are no mistake of a model but noise.
_LAYERS = 3
# Levels of lists and objects in arguments: what templates and clients write again must not be deeper.
DEPTH = 100


class MismatchError(Exception):
    """A text that is no call of the format that reads it."""


@dataclass(frozen=True)
class Function:
    """A function that the model may call: its name, and the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Call(NamedTuple):
    """A call: the function's name, and its arguments as Python values that JSON can hold."""

    name: str
    arguments: dict[str, Any]


class Found(NamedTuple):
    """Parts of an answer that have become certain: content to show, and calls that are complete."""

    content: str = ""
    calls: tuple[Call, ...] = ()


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number that JSON can hold")
    return number


# Line ends may stand in a text as they are: models write code so.
_DECODER = JSONDecoder(strict=False, parse_float=_finite, parse_constant=_finite)


def loads(text: str) -> Any:
    """The value of a JSON text; `MismatchError` if it is none."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise MismatchError(str(error)) from None


def call_of(value: Any) -> Call:
    """The call that a JSON value describes: `name` with `arguments` or `parameters`; `MismatchError` if it is none."""
    if not isinstance(value, dict):
        raise MismatchError("a call is an object")
    inner = value.get("function")
    if isinstance(inner, dict):  # as the OpenAI API writes a call
        value = inner
    name = value.get("name", inner)
    arguments: Any = next((value[key] for key in ("arguments", "parameters") if value.get(key) is not None), {})
    return Call(checked_name(name), arguments_of(arguments))


def checked_name(name: Any) -> str:
    """A function's name; `MismatchError` if it is none."""
    if not isinstance(name, str) or not name or not name.isprintable() or " " in name:
        raise MismatchError("a call has a name")
    return name


def arguments_of(value: Any) -> dict[str, Any]:
    """Arguments as an object, also where a text holds it; `MismatchError` for anything else or deeper than `DEPTH`."""
    for _ in range(_LAYERS):
        if not isinstance(value, str):
            break
        value = loads(value) if value.strip() else {}
    if not isinstance(value, dict):
        raise MismatchError("arguments are an object")
    require_depth(value)
    return value


def require_depth(arguments: dict[str, Any]) -> None:
    """`MismatchError` if arguments hold lists and objects in more than `DEPTH` levels."""
    level: list[Any] = [arguments]
    for _ in range(DEPTH):
        parts = [held.values() if isinstance(held, dict) else held for held in level if isinstance(held, (dict, list))]
        level = [item for part in parts for item in part]
    if any(isinstance(held, (dict, list)) for held in level):
        raise MismatchError("the arguments are nested too deep")
