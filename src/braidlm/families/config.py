"""A checked view of a published config: typed values, and an account of every key.

Each key is read by its family, known to have no effect, or unknown. Keys of transformers' own housekeeping pass in
silence. Other keys without effect (labels, settings of training and generation, keys of a layer kind that the model
does not have, keys that the reference implementation ignores) are named in one warning. A key that a family does not
know is refused if its name is of the kind that settings of arithmetic have, and named in the warning if not.
"""

from collections.abc import Collection, Mapping
from typing import Any

from ..errors import SpecError, named, quoted
from ..spec import is_finite
from .config_keys import SILENT, is_neutral, may_be_arithmetic

MAX_LAYERS = 10_000
_NAMED = 12  # keys that a warning lists, at most


class Config:
    """A checkpoint's config.json: typed access that names key, value and what would be right."""

    def __init__(self, data: Mapping[str, Any], family: str, place: str = "") -> None:
        """`place` is what messages put before a key of a nested object."""
        self._data = data
        self._family = family
        self._place = place
        self._nested: dict[str, Config] = {}
        self._read: set[str] = set()
        self._unused: list[str] = []
        self._notes: list[str] = []

    def _value(self, key: str, default: Any) -> Any:
        self._read.add(key)
        value = self._data.get(key)
        if value is None and default is ...:
            raise SpecError(f"the config of this {self._family} model lacks {self._place + key!r}")
        return default if value is None else value

    def _fail(self, key: str, value: Any, right: str) -> SpecError:
        return SpecError(f"config {self._place + key!r} is {quoted(value)}, but must be {right}")

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def integer(self, key: str, default: Any = ..., *, least: int = 1, most: int = 2**31) -> Any:
        """Reads a whole number in [least, most]; `default` (which may be None) where the key is absent or null."""
        value = self._value(key, default)
        if value is default and default is not ...:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._fail(key, value, f"a whole number from {least} to {most}")
        return value

    def layers(self, key: str) -> int:
        """Reads the number of blocks."""
        return self.integer(key, most=MAX_LAYERS)

    def number(self, key: str, default: Any = ...) -> Any:
        """Reads a finite number."""
        value = self._value(key, default)
        if value is default and default is not ...:
            return default
        if not is_finite(value):
            raise self._fail(key, value, "a finite number")
        return float(value)

    def positive(self, key: str, default: Any = ...) -> float:
        """Reads a finite number above zero."""
        value = self.number(key, default)
        if value <= 0:
            raise self._fail(key, value, "above zero")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Reads true or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._fail(key, value, "true or false")
        return value

    def choice(self, key: str, options: Mapping[Any, Any], default: Any = ...) -> Any:
        """Reads a value that names an entry of `options`; gives the entry."""
        value = self._value(key, default)
        if not isinstance(value, (str, int, float, bool)) or value not in options:
            raise self._fail(key, value, "one of " + ", ".join(repr(option) for option in options))
        return options[value]

    def integers(self, key: str, default: Any = ..., *, least: int = 0, most: int = 2**31) -> tuple[int, ...]:
        """Reads a list of whole numbers in [least, most]."""
        value = self._value(key, default)
        ok = isinstance(value, (list, tuple)) and all(
            isinstance(item, int) and not isinstance(item, bool) and least <= item <= most for item in value
        )
        if not ok:
            raise self._fail(key, value, f"a list of whole numbers from {least} to {most}")
        return tuple(value)

    def raw(self, key: str, default: Any = None) -> Any:
        """Reads a value as it stands."""
        return self._value(key, default)

    def fixed(self, key: str, allowed: Any, why: str) -> None:
        """Refuses any value but `allowed` (or none): `why` says what braidlm does not compute."""
        value = self._value(key, allowed)
        if value != allowed:
            raise SpecError(f"config {key!r} is {quoted(value)}, but braidlm supports only {allowed!r}: {why}")

    def nested(self, key: str) -> "Config":
        """Reads an object within the config; keys of it that nothing reads have no effect. Empty where it is absent."""
        value = self._value(key, {})
        if not isinstance(value, Mapping):
            raise self._fail(key, value, "an object")
        return self._nested.setdefault(key, Config(value, self._family, f"{self._place}{key}."))

    def unused(self, keys: Collection[str]) -> None:
        """Keys of a part that this model does not have; those that the config holds all the same are named."""
        self._unused += [key for key in keys if self._data.get(key) not in (None, False)]
        self._read.update(keys)

    def beginning(self, prefix: str) -> list[str]:
        """The config's keys that begin with `prefix`."""
        return [key for key in self._data if key.startswith(prefix)]

    def silent(self, key: str, default: Any) -> Any:
        """`default`, with which the reference fills a key that is absent, for use where null means no value at all."""
        return ... if key in self._data else default

    def note(self, text: str) -> None:
        """Adds a sentence to the warning: which of two spellings was taken, say."""
        self._notes.append(text)

    def overruled(self, key: str, by: str, value: Any) -> None:
        """A second spelling of `value`, which `by` has said: where the two disagree, the warning says so."""
        self._read.add(key)
        other = self._data.get(key)
        if other is not None and other != value:
            self.note(f"{self._place + key!r} is {quoted(other)}, but {by!r} says {quoted(value)} and is taken")

    def finish(self, ignored: frozenset[str]) -> str | None:
        """Ends reading; gives the warning (see the module).

        `SpecError` for an unknown key that may change arithmetic.
        """
        unused, notes = self._unused, self._notes
        for key in self._left(ignored):
            value = self._data[key]
            if not is_neutral(key, value) and may_be_arithmetic(key):
                raise SpecError(
                    f"config {key!r} (= {quoted(value)}) is not known for {self._family} models; "
                    "loading without understanding it could give wrong results"
                )
            unused.append(key)
        for inside in self._nested.values():
            unused += [inside._place + key for key in inside._left(frozenset())]
            notes += inside._notes
        if unused:
            notes.append(f"without effect on what is computed: {named(sorted(set(unused)), _NAMED)}")
        return f"config of this {self._family} model: {'; '.join(notes)}" if notes else None

    def _left(self, ignored: frozenset[str]) -> list[str]:
        known = self._read | ignored | SILENT
        return [key for key, value in self._data.items() if key not in known and value not in (None, False)]


def attending_blocks(kinds: Any, layers: int) -> set[int]:
    """Blocks of `layers` in all that attend by a "layer_types" list, in either spelling; the others are Mamba-2."""
    attending = ("attention", "full_attention")
    known = isinstance(kinds, list) and all(kind in (*attending, "mamba", "linear_attention") for kind in kinds)
    if not known or len(kinds) != layers:
        raise SpecError(f"config 'layer_types' is {quoted(kinds)}, but must list {layers} times 'mamba' or 'attention'")
    return {i for i, kind in enumerate(kinds) if kind in attending}
