"""Format of tool calls: how it is recognised, parsed, and enforced by a grammar."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .call import Function
from .cursor import Parser

# Calls are written as templates write them again, so that they are the same tokens in the next turn.
AS_RENDERED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

Spell = Callable[[str], str]  # a text in Lark's notation: as a control token where it is one
Rule = Callable[[Sequence[Function], Spell, str], str]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format of tool calls.

    name: what `--tool-format` calls it. signs: texts in a chat template that tell of it. markers: texts that begin a
    call anywhere in an answer; tokens: control tokens that a call may hold beside those. readers: parsers of a call
    from its marker on, of which one at most takes any text. bare_readers: those of calls without a marker, with which
    an answer may begin. rule: a grammar in Lark's notation of exactly one call of the functions, given how texts are
    spelled in it, and the chat template.
    """

    name: str
    signs: tuple[str, ...]
    markers: tuple[str, ...]
    tokens: tuple[str, ...] = ()
    readers: tuple[Parser, ...]
    bare_readers: tuple[Parser, ...] = ()
    rule: Rule


def schema_of_call(function: Function, key: str = "arguments") -> dict[str, Any]:
    """The JSON schema of a call of `function`, with its arguments under `key`."""
    parameters = dict(function.parameters) or {"type": "object"}
    definitions = {name: parameters.pop(name) for name in ("$defs", "definitions") if name in parameters}
    properties = {"name": {"const": function.name}, key: parameters}
    own = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return own | definitions


def json_rule(name: str, schemas: Sequence[Mapping[str, Any]]) -> str:
    """A rule of JSON that one of `schemas` describes."""
    alternatives = [f"{name}_{number}" for number in range(len(schemas))]
    rules = [
        f"{rule}: %json {json.dumps({**schema, 'x-guidance': AS_RENDERED})}\n"
        for rule, schema in zip(alternatives, schemas, strict=True)
    ]
    return f"{name}: {' | '.join(alternatives)}\n" + "".join(rules)
