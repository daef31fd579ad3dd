"""The nearest known name to one that is unknown, for "did you mean" in errors.

Whoever refuses a name gives the names that there are: presets, options, keys, fields, layers. Nothing is guessed and
used: the name that was meant is said, and the caller gives it. Of files of others, whose unknown names are left alone,
only those are refused that are a known name `misspelt`.
"""

import difflib
from collections.abc import Collection, Iterable

from ..errors import quoted

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


def misspelt(keys: Collection[str], known: Collection[str]) -> tuple[str, str] | None:
    """The first key that is a known one misspelt, and that one; None if there is none.

    It is not known itself, the known one is not there, and they differ in one character, or in case and spaces alone.
    """
    absent = [name for name in known if name not in keys]
    unknown = [key for key in keys if key not in known]
    return next(((key, name) for key in unknown for name in absent if _is_misspelt(key, name)), None)


def require_spelling(keys: Collection[str], known: Collection[str], says: str, like: Collection[str] = ()) -> None:
    """`ValueError` for a key that is one of the `known` names `misspelt`; `says` is how the sentence begins.

    Keys that differ little from known ones, and are right, are given as `like`.
    """
    found = misspelt(keys, (*known, *like))
    if found is not None and found[1] in known:
        raise ValueError(f"{says} {quoted(found[0])}, which is not known; should it be {found[1]!r}?")


def _is_misspelt(key: str, name: str) -> bool:
    if abs(len(key) - len(name)) > _LONGEST_NAME:
        return False
    if "".join(key.split()).casefold() == name:
        return True
    same = next((i for i, (a, b) in enumerate(zip(key, name, strict=False)) if a != b), min(len(key), len(name)))
    rests = ((key[same + 1 :], name[same + 1 :]), (key[same + 1 :], name[same:]), (key[same:], name[same + 1 :]))
    return key != name and any(one == other for one, other in rests)


def _plain(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", "-_."))
