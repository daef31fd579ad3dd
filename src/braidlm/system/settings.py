"""Settings as fields of dataclasses, each described once: its type, default, range and what it is for.

`parallel: Annotated[int, Setting("Maximum number of sequences decoded at once.", least=1)] = 16` is such a field. From
it come its check (`check_settings`), its option on the command line (`cli/options.py`), its key in a TOML file
(`system/setting_files.py`) and its row in the documentation. Imports nothing heavy, so that help is shown at once.
"""

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ..errors import InputError
from .units import bytes_text

# What a value of a type is, in messages and tables.
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


class Setting(NamedTuple):
    """Description of one setting.

    help: what it is, with its unit, in one sentence. least, most, above, below: range of a number. valid: another
    condition of a right value, which `right` says in words; None is right wherever the type allows it. in_bytes: the
    number counts bytes and may be written as "4GiB". name: its name in options and files, where that is not the
    field's. unset: what holds where the default is None, or where there is none. secret: messages never show the value.
    """

    help: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    valid: Callable[[Any], bool] | None = None
    right: str = ""
    in_bytes: bool = False
    name: str = ""
    unset: str = ""
    secret: bool = False


@dataclass(frozen=True, kw_only=True)
class SettingField:
    """Field of a dataclass with the description of its setting; `kind` is its type, without None."""

    field: str
    kind: Any
    optional: bool
    default: Any  # `MISSING` if it has to be given
    setting: Setting

    @property
    def name(self) -> str:
        """Name in options (with hyphens) and files."""
        return self.setting.name or self.field

    @property
    def origin(self) -> Any:
        """Type without its parameters: `tuple` of tuple[str, ...]."""
        return get_origin(self.kind) or self.kind

    @property
    def is_table(self) -> bool:
        """Whether the value is a table of names and paths."""
        return self.origin is Mapping

    @property
    def right(self) -> str:
        """Words for a right value."""
        if self.setting.right:
            return self.setting.right
        if self.origin is Literal:
            return f"one of {', '.join(map(repr, get_args(self.kind)))}"
        if self.origin is tuple:
            return f"a list of {_WORDS[get_args(self.kind)[0]].removeprefix('a ')}s"
        if self.kind is float and self.range:
            return self.range
        word = "a table of names and paths" if self.is_table else _WORDS[self.kind]
        return ", ".join(filter(None, (word, self.range)))

    @property
    def range(self) -> str:
        """Range of a number, in words: "1 or more", "from 0 to below 1"; "" if it has none."""
        low, high = _low(self.setting), _high(self.setting)
        if high and self.setting.above is None:
            return f"from {low} to {high}"
        return f"{low} and {high}" if high else low and (low if self.setting.above is not None else f"{low} or more")

    @property
    def default_text(self) -> str:
        """Default in words, for help and documentation; "" if there is none to tell."""
        if self.setting.unset or self.default in (None, MISSING):
            return self.setting.unset
        if self.setting.in_bytes:
            return bytes_text(self.default)
        return "" if self.default in ((), {}) or self.default is False else str(self.default)

    def check_value(self, value: Any, name: str) -> None:
        """Raises `InputError`, which calls the setting `name`, unless `value` is right."""
        if value is None and self.optional:
            return
        of_type, setting = _is_of(value, self.kind), self.setting
        if not of_type or not _in_range(value, setting) or not (setting.valid is None or setting.valid(value)):
            number = of_type and self.range and not setting.right
            right = self.range if number else self.right
            if setting.secret:
                raise InputError(f"{name} has a wrong value, which is not shown; it must be {right}")
            raise wrong_value(name, value, right)


def wrong_value(name: str, value: Any, right: str) -> InputError:
    """Error of a setting whose value is not what would be `right`."""
    return InputError(f"{name} is {list(value) if isinstance(value, tuple) else value!r}, but must be {right}")


def require_value(ok: bool, name: str, value: Any, right: str) -> None:
    """Raises `InputError` unless `ok`: for a condition on several settings together."""
    if not ok:
        raise wrong_value(name, value, right)


@cache
def settings_of(kind: type) -> Mapping[str, SettingField]:
    """Settings of a dataclass by their names in options and files, in the order of its fields."""
    found = {}
    hints = get_type_hints(kind, include_extras=True)
    for item in fields(kind):
        hint = hints[item.name]
        described = [note for note in getattr(hint, "__metadata__", ()) if isinstance(note, Setting)]
        if get_origin(hint) is not Annotated or not described:
            continue
        plain, optional = _without_none(get_args(hint)[0])
        default = item.default if item.default_factory is MISSING else item.default_factory()
        made = SettingField(field=item.name, kind=plain, optional=optional, default=default, setting=described[0])
        found[made.name] = made
    return types.MappingProxyType(found)


def check_settings(owner: Any, table: str = "") -> None:
    """Checks the values of a dataclass's settings; `InputError` names the first that is wrong, in `table` if given.

    A list where a setting is a tuple becomes one.
    """
    for item in settings_of(owner.__class__).values():
        value = getattr(owner, item.field)
        if item.origin is tuple and isinstance(value, list):
            value = tuple(value)
            object.__setattr__(owner, item.field, value)  # the dataclass is frozen
        item.check_value(value, f"{table}.{item.field}" if table else item.field)


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether `value` is a number that a float can hold."""
    return (is_whole(value) and abs(value) < 2**1000) or (isinstance(value, float) and math.isfinite(value))


def _without_none(kind: Any) -> tuple[Any, bool]:
    """A type, and whether None was one of its values besides."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    rest = [option for option in get_args(kind) if option is not type(None)]
    return rest[0], len(rest) < len(get_args(kind))


def _is_of(value: Any, kind: Any) -> bool:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return value in get_args(kind)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(item, get_args(kind)[0]) for item in value)
    if origin is Mapping:
        kinds = get_args(kind)
        return isinstance(value, Mapping) and all(
            _is_of(part, k) for item in value.items() for part, k in zip(item, kinds)
        )
    if origin is int:
        return is_whole(value)
    return is_finite(value) if origin is float else isinstance(value, origin)


def _in_range(value: Any, setting: Setting) -> bool:
    return (
        (setting.least is None or value >= setting.least)
        and (setting.most is None or value <= setting.most)
        and (setting.above is None or value > setting.above)
        and (setting.below is None or value < setting.below)
    )


def _low(setting: Setting) -> str:
    if setting.above is not None:
        return f"above {setting.above:g}"
    return "" if setting.least is None else _number(setting.least)


def _high(setting: Setting) -> str:
    if setting.below is not None:
        return f"below {setting.below:g}"
    if setting.most is None:
        return ""
    return _number(setting.most) if setting.above is None else f"at most {_number(setting.most)}"


def _number(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
