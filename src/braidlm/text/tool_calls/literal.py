"""Python's literals as JSON values, without evaluating anything."""

import ast
import json
import math
import re
from typing import Any

from .call import MismatchError, loads

LONGEST = 1 << 20  # characters of one value
WORDS = {"true": True, "false": False, "null": None, "none": None}
# A backslash with the character behind it; Python warns of pairs that mean nothing to it.
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = frozenset("\\'\"abfnrtvxuUN01234567\n")


def literal(text: str) -> Any:
    """The value of a literal, of JSON's or of Python's; `MismatchError` if it is none."""
    if len(text) > LONGEST:
        raise MismatchError(f"a value has more than {LONGEST} characters")
    try:
        return loads(text)
    except MismatchError:
        pass
    plain = _PAIR.sub(lambda pair: pair[0] if pair[1] in _ESCAPES else "\\" + pair[0], text)
    try:
        return _value(ast.parse(f"({plain})", mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise MismatchError(f"a value is no literal: {error}") from None


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | int() | None as value):  # bool is an int
            return value
        case ast.Constant(value=float(value)) if math.isfinite(value):
            return value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant() as operand):
            number = _value(operand)
            if type(number) in (int, float):
                return -number if isinstance(sign, ast.USub) else number
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.Name(id=word) if word in WORDS:
            return WORDS[word]
    raise MismatchError("a value is no literal")


def _key(node: ast.expr | None) -> str:
    """A key as JSON has it."""
    key = None if node is None else _value(node)
    if isinstance(key, str):
        return key
    if isinstance(key, (int, float)):
        return json.dumps(key)
    raise MismatchError("a key is neither text nor number")
