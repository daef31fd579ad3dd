"""What a kind of file brings to the harness: a valid set of files, a reader of them, and a rule on differences."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .differences import differences

# A rule: the file's name, its bytes as they were, and as they are; None where no file is there any more.
Lawful = Callable[[str, bytes, bytes | None], bool]


@dataclass(frozen=True)
class Kind:
    """build: writes the files. read: everything a user does with them, as a digest of what came of it.

    files: patterns of those that are damaged, JSON among them also as JSON. lawful: which damage makes a file that a
    user could have meant, so that another result is right.
    """

    name: str
    build: Callable[[Path], None]
    read: Callable[[Path], str]
    files: tuple[str, ...]
    lawful: Lawful


def digest(*parts: object) -> str:
    """A short name of outputs."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.detach().numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode())
    return hashed.hexdigest()[:16]


def never(name: str, intact: bytes, changed: bytes | None) -> bool:
    """The rule of files with a checksum."""
    return False


def plain_values(
    intact: bytes, changed: bytes | None, *, tables: Collection[str] = (), optional: Collection[str] = ()
) -> bool:
    """Whether only values of JSON differ, each being another one of the same type.

    Below the keys in `tables` keys are values, and lists may have other lengths. A key in `optional` may be missing.
    """
    found = None if changed is None else differences(intact, changed)
    if found is None:
        return False
    for path, what in found:
        in_table = any(key in tables for key in path[:-1]) or (what == "length" and path and path[-1] in tables)
        if not (what == "value" or in_table or (what == "missing" and path[-1] in optional)):
            return False
    return True
