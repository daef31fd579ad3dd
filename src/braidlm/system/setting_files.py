"""Settings written down: in TOML files, and as texts on a command line.

Here a value of plain data becomes one of its setting's type: a list a tuple, "4GiB" a number of bytes, a path one that
is relative to the file or begins with ~. `system.settings` checks it.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .settings import SettingField, settings_of, wrong_value
from .suggest import did_you_mean
from .units import bytes_of


def read_toml(path: Path) -> dict[str, Any]:
    """Data of a TOML file; `InputError` if it cannot be read or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is no TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deep") from None


def set_value(data: dict[str, Any], change: str) -> None:
    """Sets one value of nested plain data, as `--set` asks: "optimizer.lr=1e-3", "stages.0.steps=10".

    What stands behind the equals sign is TOML, or else a text without quotation marks.
    """
    name, equals, text = change.partition("=")
    *way, last = name.strip().split(".")
    if not (equals and last):
        raise InputError(f"--set {change!r} is not of the form key=value, such as optimizer.lr=1e-3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    place: Any = data
    for part in way:
        place = place.setdefault(part, {}) if isinstance(place, dict) else _item(place, part, name)
    if isinstance(place, list):
        raise InputError(f"--set {name!r} names a list; name one of its fields, such as stages.0.steps")
    place[last] = value


def _item(place: Any, part: str, name: str) -> Any:
    if isinstance(place, list) and part.isdigit() and int(part) < len(place):
        return place[int(part)]
    raise InputError(f"--set {name!r} names no field: there is no {part!r} in it")


def read_settings(path: Path, kinds: Iterable[type], others: Iterable[str] = ()) -> dict[str, Any]:
    """Values of a TOML file by the names of their settings, which are those of the dataclasses `kinds`.

    `others` are keys that the caller checks himself. Paths are relative to the file. `InputError` names the file and
    the first key that is unknown or has a wrong value.
    """
    known = {name: item for kind in kinds for name, item in settings_of(kind).items()}
    data = read_toml(path)
    for key in data:
        if key not in known and key not in others:
            names = (*others, *known)
            meant = did_you_mean(key, names) or f"; it may have {', '.join(sorted(names))}"
            raise InputError(f"{path} has the unknown setting {key!r}{meant}")
    values = {}
    for key, value in data.items():
        values[key] = value
        if key in known:
            values[key] = typed_value(known[key], value, f"{path}: {key}", path.parent)
            known[key].check_value(values[key], f"{path}: {key}")
    return values


def typed_value(item: SettingField, value: Any, name: str, here: Path) -> Any:
    """`value`, plain data that was given for the setting `name`, as a value of its type; paths are relative to `here`.

    Data of another type stays as it is, for the check to refuse.
    """
    if item.setting.in_bytes and isinstance(value, str):
        try:
            return bytes_of(value)
        except InputError:
            raise wrong_value(name, value, "an amount of memory: 4GiB, 512MiB or a number of bytes") from None
    if item.kind is Path and isinstance(value, str) and value:
        return _path(here, value)
    if item.origin is tuple and isinstance(value, list):
        return tuple(value)
    if item.is_table and isinstance(value, dict) and all(isinstance(place, str) for place in value.values()):
        return {key: _path(here, place) if place else place for key, place in value.items()}
    return value


def _path(here: Path, text: str) -> Path:
    return here / os.path.expanduser(text)


def named_paths(texts: Iterable[str], option: str) -> dict[str, str]:
    """Values of an option NAME=PLACE that may be repeated, as a table."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, place = text.partition("=")
        if not (name and equals and place) or name in found:
            raise InputError(f"{option} {text!r} is not of the form NAME=PLACE with a name of its own")
        found[name] = place
    return found


def with_values(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a dataclass from values by the names of its settings; those of other settings are left out."""
    return {item.field: values[name] for name, item in settings_of(kind).items() if name in values}
