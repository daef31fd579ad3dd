"""A spec as JSON and back, driven by the dataclasses themselves.

Every object carries its class name under "kind", so that unions need no guessing; a class with a field of that name,
which can stand in no union, goes without. Fields at their default value are left out; unknown fields and kinds are
refused by name.
"""

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_origin

from ..errors import SpecError
from ..system.suggest import did_you_mean


def encode(value: Any) -> Any:
    """`value`, a spec dataclass or a part of one, as plain JSON data."""
    if not is_dataclass(value):
        return [encode(item) for item in value] if isinstance(value, tuple) else value
    data: dict[str, Any] = {} if _has_kind(type(value)) else {"kind": type(value).__name__}
    for item in fields(value):
        current = getattr(value, item.name) if item.init else item.default
        if item.init and not (item.default is not MISSING and current == item.default):
            data[item.name] = encode(current)
    return data


def decode(kind: Any, data: Any, where: str) -> Any:
    """`data` as an object of type `kind`; `where` names its place in messages."""
    if get_origin(kind) in (typing.Union, types.UnionType):
        return _decode_union(get_args(kind), data, where)
    if get_origin(kind) is tuple:
        if not isinstance(data, list):
            raise SpecError(f"{where} is {data!r}, but must be a list")
        return tuple(decode(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if is_dataclass(kind):
        return _decode_object(kind, data, where)
    return _decode_scalar(kind, data, where)


def _decode_union(options: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in options:
        return None
    classes = [option for option in options if is_dataclass(option)]
    if not classes:
        return decode(next(option for option in options if option is not type(None)), data, where)
    if len(classes) == 1:  # there is nothing to guess
        return decode(classes[0], data, where)
    name = data.get("kind") if isinstance(data, dict) else data
    for option in classes:
        if getattr(option, "__name__", None) == name:
            return decode(option, data, where)
    known = [option.__name__ for option in classes]  # type: ignore[union-attr]
    meant = did_you_mean(name, known) if isinstance(name, str) else ""
    raise SpecError(f"{where} has kind {name!r}, but must be one of {', '.join(known)}{meant}")


def _decode_object(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise SpecError(f"{where} is {data!r}, but must be an object of kind {kind.__name__}")
    if not _has_kind(kind) and data.get("kind", kind.__name__) != kind.__name__:
        raise SpecError(f"{where} has kind {data['kind']!r}, but must be {kind.__name__}")
    hints = typing.get_type_hints(kind)
    known = {item.name for item in fields(kind) if item.init}
    unknown = sorted(set(data) - known - {"kind"})
    if unknown:
        there = did_you_mean(unknown[0], known) or f"; {kind.__name__} has {', '.join(sorted(known))}"
        raise SpecError(f"{where} has the unknown field {unknown[0]!r}{there}")
    required = {f.name for f in fields(kind) if f.init and f.default is MISSING and f.default_factory is MISSING}
    missing = sorted(required - set(data))
    if missing:
        raise SpecError(f"{where} lacks the field {missing[0]!r} of {kind.__name__}")
    values = {name: decode(hints[name], data[name], f"{where}.{name}") for name in known & set(data)}
    return kind(**values)


def _has_kind(kind: Any) -> bool:
    """Whether "kind" is a field of the class itself."""
    return any(item.name == "kind" for item in fields(kind))


def _decode_scalar(kind: Any, data: Any, where: str) -> Any:
    if get_origin(kind) is typing.Literal:
        if data not in get_args(kind):
            raise SpecError(f"{where} is {data!r}, but must be one of {', '.join(map(repr, get_args(kind)))}")
        return data
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(data, accepted) or (isinstance(data, bool) and kind is not bool):
        raise SpecError(f"{where} is {data!r}, but must be of type {kind.__name__}")
    return data
