"""Bounds on rules before they are compiled: bytes, depth, definitions, chains of references, sizes of repeats.

They refuse with a clear sentence what no answer needs. That a rule within them can be compiled is proved by compiling
it in a process that may crash: see `rule_process`.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Literal

from ..errors import InputError, quoted

Kind = Literal["json_schema", "regex", "lark"]

MOST_BYTES = 256 << 10
MOST_DEPTH = 100
MOST_DEFINITIONS = 1000
MOST_CHAIN = 100
MOST_REPEATS = 1_000_000

# What a regular expression is made of: escapes, classes, groups, repeats with their counts, all else by character.
_PARTS = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|[()]|\{(\d+)(?:,(\d*))?\}|.", re.DOTALL)
_DEFINITIONS = ("$defs", "definitions")


def check_rule(kind: Kind, text: str, what: str) -> None:
    """`InputError` if a rule is beyond the bounds; `what` names it there."""
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise InputError(f"the {what} has more than {MOST_BYTES >> 10} KiB; write a smaller one")
    if kind == "json_schema":
        check_schema(_parsed(text, what), what)
    else:
        _check_nesting(text, what)
        check_repeats(text, what)


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise _too_deep(what) from None
    except ValueError as error:
        raise InputError(f"the {what} cannot be followed: it is no valid JSON: {error}") from None


def check_schema(schema: Any, what: str) -> None:
    """`InputError` if a JSON schema is beyond the bounds on depth, definitions, chains and repeats."""
    definitions = 0
    for value, depth in _values(schema):
        if depth > MOST_DEPTH:
            raise _too_deep(what)
        if isinstance(value, dict):
            definitions += sum(len(value[name]) for name in _DEFINITIONS if isinstance(value.get(name), dict))
            _check_patterns(value, what)
    if definitions > MOST_DEFINITIONS:
        raise InputError(f"the {what} has {definitions} definitions, but may have {MOST_DEFINITIONS}")
    _check_chains(schema, what)


def _too_deep(what: str) -> InputError:
    return InputError(f"the {what} is nested more than {MOST_DEPTH} deep")


def _values(root: Any, but: Collection[str] = ()) -> Iterator[tuple[Any, int]]:
    """All values inside a JSON value and itself, each with its depth, `but` what has one of these names."""
    stack = [(root, 0)]
    while stack:
        value, depth = stack.pop()
        yield value, depth
        if depth <= MOST_DEPTH and isinstance(value, dict | list):
            inner = [item for key, item in value.items() if key not in but] if isinstance(value, dict) else value
            stack.extend((item, depth + 1) for item in inner)


def _check_patterns(schema: dict[str, Any], what: str) -> None:
    by_name = schema.get("patternProperties")
    for pattern in (schema.get("pattern"), *(by_name if isinstance(by_name, dict) else ())):
        if isinstance(pattern, str):
            check_repeats(pattern, f"pattern in the {what}")


def _check_chains(root: Any, what: str) -> None:
    """Refuses references that lead to references and so on, for longer than any schema that people write."""
    met: set[str] = set()
    waiting = [(root, 0)]
    while waiting:
        part, chain = waiting.pop()
        if chain > MOST_CHAIN:
            raise InputError(f"the {what} has a chain of more than {MOST_CHAIN} references, each to the next")
        for value, _ in _values(part, but=_DEFINITIONS):
            place = value.get("$ref") if isinstance(value, dict) else None
            if isinstance(place, str) and place not in met:
                met.add(place)
                waiting.append((_at(root, place), chain + 1))


def _at(root: Any, place: str) -> Any:
    """Target of a reference within the schema; None if it leads elsewhere or nowhere."""
    found = root
    for part in place.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _check_nesting(text: str, what: str) -> None:
    """Refuses brackets in brackets, which compilers follow by recursion."""
    depth = 0
    for sign in re.findall(r"\\.|[()\[\]]", text):
        depth += (sign in "([") - (sign in ")]")
        if depth > MOST_DEPTH:
            raise _too_deep(what)


def check_repeats(text: str, what: str) -> None:
    """Refuses repeats `{m,n}` that multiply, one inside the other, to more copies than a text has characters."""
    opened, inner = [1], 1  # the largest product in each open bracket; that of the last item
    for match in _PARTS.finditer(text):
        sign, least, most = match[0], match[1], match[2]
        if least is not None:
            inner *= max(int(least[:12]), int((most or "0")[:12]), 1)
            opened[-1] = max(opened[-1], inner)
            if inner > MOST_REPEATS:
                raise InputError(f"the {what} repeats a part more than {MOST_REPEATS} times, by {quoted(sign)}")
        elif sign == "(":
            opened.append(1)
            inner = 1
        elif sign == ")" and len(opened) > 1:
            inner = opened.pop()
            opened[-1] = max(opened[-1], inner)
        else:
            inner = 1
