"""Lists of blocks as a recipe writes them: "all", "3", "4-9", "0-28:2", several with commas between."""

import re

from ..errors import InputError

_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


def parse_blocks(text: str, count: int, name: str) -> list[int]:
    """Numbers of the blocks that `text` names, of a model with `count` of them; `name` is the setting's."""
    found: list[int] = []
    for part in text.split(","):
        if part.strip() == "all":
            found += range(count)
            continue
        match = _PART.fullmatch(part.strip())
        if match is None or match[3] == "0":
            raise InputError(f'{name} is {text!r}, but must be a list such as "0, 4-9, 10-28:2", or "all"')
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if not first <= last < count:
            raise InputError(f"{name} names block {max(first, last)}, but the donor has the blocks 0 to {count - 1}")
        found += range(first, last + 1, step)
    return sorted(set(found))
