"""Rules that a text must follow (JSON schema, regular expression, Lark grammar), by llguidance.

A rule is compiled for a vocabulary; then it says for each next token whether the text can still be completed.
"""

import functools
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..continuation import Constraint
from ..errors import InputError, UnavailableError

Kind = Literal["json_schema", "regex", "lark"]

# Between the parts of JSON: nothing, one blank, or a line break with its indentation. Without a bound a model that
# likes blanks writes them for ever. A schema's own "x-guidance" goes before.
_BOUNDED = {"whitespace_pattern": r" |\n([ ]{0,40}|\t{0,10})"}

# Compiled rules that are kept: clients send the same one again and again.
_COMPILED = 16
Compile = Callable[["Grammar"], Callable[[], Constraint]]


@dataclass(frozen=True)
class Grammar:
    """A rule as it is written: a JSON schema's text, a regular expression, or a Lark grammar.

    `made_of` names in errors what the rule was made of, where that is not what the user wrote.
    """

    kind: Kind
    text: str
    made_of: str = ""

    @classmethod
    def of_schema(cls, schema: dict[str, Any]) -> "Grammar":
        """Texts that are JSON of this schema."""
        return cls("json_schema", json.dumps(schema))


class Matcher:
    """The state of one text within a rule."""

    def __init__(self, matcher: Any, vocab: int) -> None:
        """`matcher` is llguidance's."""
        self._matcher = matcher
        self._vocab = vocab

    def allowed(self) -> NDArray[np.bool_]:
        """See `continuation.Constraint`."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, bitorder="little", count=self._vocab).view(np.bool_)

    def forced(self) -> list[int]:
        """See `continuation.Constraint`."""
        return list(self._matcher.compute_ff_tokens())

    def push(self, token: int) -> None:
        """See `continuation.Constraint`."""
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise InputError(f"the rule cannot be followed further: {_first_line(self._matcher.get_error())}")

    def finished(self) -> bool:
        """See `continuation.Constraint`."""
        return bool(self._matcher.is_stopped())


def compiler(tokenizer_json: Callable[[], str], vocab: int, ends: Collection[int]) -> Compile:
    """What compiles rules for a vocabulary of `vocab` ids, with the tokenizers library's own description of it,
    which is asked for when the first rule comes.

    A compiled rule gives a fresh matcher at each call. Raises `InputError` for a rule that is none, and
    `UnavailableError` without llguidance.
    """

    @functools.cache
    def tokens() -> Any:
        return _llguidance().LLTokenizer(tokenizer_json(), n_vocab=vocab, eos_token=sorted(ends) or None)

    @functools.lru_cache(_COMPILED)
    def compiled(grammar: Grammar) -> Callable[[], Constraint]:
        kinds = _llguidance().LLMatcher
        written = {
            "json_schema": lambda schema: kinds.grammar_from_json_schema(schema, defaults=_white_space(schema)),
            "regex": kinds.grammar_from_regex,
            "lark": kinds.grammar_from_lark,
        }
        what = grammar.made_of or grammar.kind
        try:
            matcher = kinds(tokens(), written[grammar.kind](grammar.text), log_level=0)
        except ValueError as error:
            raise InputError(f"the {what} cannot be followed: {_first_line(str(error))}") from None
        if matcher.is_error():
            raise InputError(f"the {what} cannot be followed: {_first_line(matcher.get_error())}")
        return lambda: Matcher(matcher.deep_copy(), vocab)

    return compiled


def _white_space(schema: str) -> dict[str, str]:
    """The bound on white space, unless the schema leaves none: the library would take the bound for a wish for some."""
    try:
        read = json.loads(schema)
    except (ValueError, RecursionError):
        return _BOUNDED  # the library says what is wrong with it
    own = read.get("x-guidance") if isinstance(read, dict) else None
    return {} if isinstance(own, dict) and own.get("whitespace_flexible") is False else _BOUNDED


@functools.cache
def _llguidance() -> Any:
    try:
        import llguidance  # noqa: PLC0415 - optional
    except ImportError:
        raise UnavailableError("rules for the text need llguidance; pip install 'braidlm[grammar]'") from None
    return llguidance


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0]
