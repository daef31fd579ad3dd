"""The nearest known name to one that is unknown, for "did you mean" in errors.

Whoever refuses a name gives the names that there are: presets, options, keys, fields, layers. Nothing is guessed and
used: the name that was meant is said, and the caller gives it.
"""

import difflib
from collections.abc import Iterable

# Names are short; nothing is near a longer one.
_LONGEST_NAME = 64
_NEAR = 0.7


def near(name: str, known: Iterable[str]) -> str:
    """The one of the `known` names that is most like `name`; "" if none is like it.

    Case, hyphens, underscores and dots do not count.
    """
    if len(name) > _LONGEST_NAME:
        return ""
    plain = {_plain(other): other for other in sorted(known, reverse=True)}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_NEAR)
    return plain[found[0]] if found else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence, "; did you mean 'NAME'?", with the nearest of the `known` names; "" if none is near."""
    found = near(name, known)
    return f"; did you mean {found!r}?" if found else ""


def _plain(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", "-_."))
