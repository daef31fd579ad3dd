"""GGUF files in several parts, "model-00001-of-00003.gguf": the first has the metadata, each has tensors."""

import re
from pathlib import Path

from ...errors import CheckpointError
from ...spec import is_whole
from ...system.files import is_there
from .header import GgufHeader

_NAME = re.compile(r"(.*-)(\d{5})-of-(\d{5})\.gguf")


def read_parts(path: Path) -> list[GgufHeader]:
    """The file, or all files of a model whose first part it is.

    Raises `CheckpointError` where `path` is a later part, or a part is missing, of another model, or damaged.
    """
    first = GgufHeader(path)
    count = _whole(first, "split.count", 1)
    if count <= 1:
        return [first]
    if _whole(first, "split.no", 0) != 0:
        raise CheckpointError(f"{path} is part {first.fields['split.no'] + 1} of {count}; load the first part")
    parts = [first, *(_part(path, number, count) for number in range(2, count + 1))]
    _check_tensors(parts)
    return parts


def _part(path: Path, number: int, count: int) -> GgufHeader:
    found = _NAME.fullmatch(path.name)
    if found is None or (int(found[2]), int(found[3])) != (1, count):
        raise CheckpointError(
            f"{path} is the first part of {count}, but its name does not end in -00001-of-{count:05d}.gguf, "
            "by which the others are found"
        )
    other = path.with_name(f"{found[1]}{number:05d}-of-{count:05d}.gguf")
    if not is_there(other):
        raise CheckpointError(f"{path} is the first part of {count}, but {other.name} is not beside it")
    part = GgufHeader(other)
    if (_whole(part, "split.no", -1), _whole(part, "split.count", 0)) != (number - 1, count):
        raise CheckpointError(f"{other} does not say that it is part {number} of {count}")
    return part


def _check_tensors(parts: list[GgufHeader]) -> None:
    path, names = parts[0].path, [name for part in parts for name in part.tensors]
    if len(set(names)) < len(names):
        raise CheckpointError(f"the parts of {path} have tensors of the same name")
    wanted = _whole(parts[0], "split.tensors.count", len(names))
    if wanted != len(names):
        raise CheckpointError(f"the parts of {path} have {len(names)} tensors, but must have {wanted}")


def _whole(part: GgufHeader, key: str, default: int) -> int:
    value = part.fields.get(key, default)
    if not is_whole(value):
        raise CheckpointError(f"{part.path} has a {key} that is no whole number")
    return value
