"""Rules that a text must follow (JSON schema, regular expression, Lark grammar), by llguidance.

A rule is compiled for a vocabulary; then it says for each next token whether the text can still be completed.
"""

import functools
import json
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UnavailableError, not_installed
from ..generation.continuation import Constraint
from ..text.library import guarded
from .computed_once import ComputedOnce
from .rule_bounds import Kind, check_rule
from .rule_compiler import STACK_BYTES, compiled, first_line, on_a_stack, vocabulary
from .rule_process import RuleProcess

# Between the parts of JSON: nothing, one blank, or a line break with its indentation. Without a bound a model that
# likes blanks writes them for ever. A schema's own "x-guidance" goes before.
_BOUNDED = {"whitespace_pattern": r" |\n([ ]{0,40}|\t{0,10})"}

# Rules that are kept, compiled or refused: clients send the same one again and again.
_KEPT = 16
# A rule's stack here is larger than where it was tried, so that what passed there overflows none here.
_STACK_BYTES = 4 * STACK_BYTES
_STACKS = threading.Lock()


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
        """Grammar of JSON that follows a schema."""
        return cls("json_schema", json.dumps(schema))


class Compile(Protocol):
    """Compiler of rules for one vocabulary."""

    def __call__(self, grammar: Grammar) -> Callable[[], Constraint]:
        """Compiles a rule; returns a factory of its constraints. `InputError` for what is no rule."""

    def prepare(self) -> None:
        """Starts what the first rule would wait for."""


class Matcher:
    """Constraint of one sequence by a rule."""

    def __init__(self, matcher: Any, vocab: int) -> None:
        """`matcher` is llguidance's."""
        self._matcher = matcher
        self._vocab = vocab

    def allowed(self) -> NDArray[np.bool_]:
        """See `continuation.Constraint`."""
        with guarded(_stuck):
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, bitorder="little", count=self._vocab).view(np.bool_)

    def forced(self) -> list[int]:
        """See `continuation.Constraint`."""
        with guarded(_stuck):
            return list(self._matcher.compute_ff_tokens())

    def push(self, token: int) -> None:
        """See `continuation.Constraint`."""
        with guarded(_stuck):
            self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise _stuck(first_line(self._matcher.get_error()))

    def finished(self) -> bool:
        """See `continuation.Constraint`."""
        return bool(self._matcher.is_stopped())


def _stuck(reason: str) -> InputError:
    return InputError(f"the rule cannot be followed further: {reason}")


def _no_vocabulary(reason: str) -> UnavailableError:
    return UnavailableError(f"rules for the text cannot be compiled for this vocabulary: {reason}")


class Rules:
    """Compiler of rules for one vocabulary.

    A rule is held to bounds, compiled in a process that may crash, and only then compiled here. Raises `InputError` for
    a rule that is none, `BusyError` if too many are being compiled, and `UnavailableError` without llguidance.
    """

    def __init__(self, tokenizer_json: Callable[[], str], vocab: int, ends: Collection[int]) -> None:
        """`tokenizer_json` gives the tokenizers library's own description, and is asked when the first rule comes."""
        self._tokenizer_json = tokenizer_json
        self._vocab = vocab
        self._ends = sorted(ends)
        self._process = RuleProcess(tokenizer_json, vocab, ends)
        # A rule that many ask for at once takes one of the places where rules are compiled.
        self._kept = ComputedOnce(self._compiled, _KEPT)

    @functools.cached_property
    def _tokens(self) -> Any:
        with guarded(_no_vocabulary):
            return vocabulary(_llguidance(), self._tokenizer_json(), self._vocab, self._ends)

    def prepare(self) -> None:
        """See `Compile`."""
        _ = self._tokens
        self._process.start()

    def __call__(self, grammar: Grammar) -> Callable[[], Constraint]:
        """See `Compile`."""
        found = self._kept(grammar)
        if isinstance(found, InputError):
            raise InputError(str(found))  # a fresh one, since what is raised holds its caller's frames
        return found

    def _compiled(self, grammar: Grammar) -> Callable[[], Constraint] | InputError:
        """Factory of a rule's matchers, or the error that says what is wrong with the rule."""
        what = grammar.made_of or grammar.kind
        try:
            check_rule(grammar.kind, grammar.text, what)
        except InputError as error:
            return InputError(str(error))
        defaults = _white_space(grammar.text) if grammar.kind == "json_schema" else {}
        library, tokens = _llguidance(), self._tokens
        if reason := self._process.reason_against(grammar.kind, grammar.text, defaults):
            return InputError(f"the {what} cannot be followed: {reason}")
        found: list[Any] = []
        with _STACKS:
            on_a_stack(
                _STACK_BYTES, lambda: found.append(compiled(library, tokens, grammar.kind, grammar.text, defaults))
            )
        matcher, vocab = found[0], self._vocab
        return lambda: Matcher(matcher.deep_copy(), vocab)


def _white_space(schema: str) -> dict[str, str]:
    """Bound on white space, unless the schema leaves none: the library would take the bound for a wish for some."""
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
        raise not_installed("a rule for the text", "llguidance", "grammar") from None
    return llguidance
