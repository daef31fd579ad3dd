"""The exceptions a caller may catch. Every message is one sentence: what was wrong, where, what would be right.

Messages quote what was given. However long that is, they stay short (see `shortened`).
"""

import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

# A quotation, as `repr` and `json.dumps` write one: it does not begin within a word (as the s of "model's" would), and
# it ends at the same mark, if that is not behind a backslash. Nor does it begin behind one: so a mark that nothing
# closes is looked for once.
_QUOTED = re.compile(r"""(?<![\w\\])(["'])((?:(?!\1)[^\\]|\\.)*+)\1""", re.DOTALL)
_WORD = re.compile(r"\S{301,}")
_QUOTE, _SLACK = 200, 10
# Lists of many short things: what was wrong comes first, and what would be right last.
_HEAD, _TAIL = 700, 300
# A quotation as a whole, or a bracket outside of one.
_BRACKET = re.compile(_QUOTED.pattern + r"|[\[\]{}]", re.DOTALL)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def one_line(error: object) -> str:
    """A library's words, which may quote a damaged file, with line ends and the like as `repr` writes them."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], str(error))


def shortened(message: str) -> str:
    """`message` with quotations, lists and long words cut at 200 characters; beyond 1,000 in all its middle is gone."""
    message = _without_long_lists(_QUOTED.sub(_shortened_quote, message))
    message = _WORD.sub(lambda word: _cut(word[0]), message)
    return message if len(message) <= _HEAD + _TAIL else f"{message[:_HEAD]} ... {message[-_TAIL:]}"


def _shortened_quote(found: re.Match[str]) -> str:
    return found[1] + _cut(found[2]) + found[1]


def _without_long_lists(message: str) -> str:
    """Cuts what stands in the outermost brackets: lists and objects, as `repr` writes them."""
    parts, done, depth, begin = [], 0, 0, 0
    for found in _BRACKET.finditer(message):
        if found[0] in ("[", "{"):
            begin = begin if depth else found.end()
            depth += 1
        elif found[0] in ("]", "}") and depth:
            depth -= 1
            if not depth:
                parts += [message[done:begin], _cut(message[begin : found.start()])]
                done = found.start()
    return "".join([*parts, message[done:]])


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTE + _SLACK else f"{text[:_QUOTE]}..."


class BraidError(Exception):
    """Base of every error that braidlm raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class SpecError(BraidError, ValueError):
    """A model description that cannot be built, or a config that cannot be understood."""


class CheckpointError(BraidError, ValueError):
    """Weights that are missing, damaged, superfluous or of the wrong shape."""


class InputError(BraidError, ValueError):
    """Tokens, prompts or options that the model cannot take."""


class ContextLengthError(InputError):
    """More tokens than the model declares it can take."""


class StateError(BraidError, ValueError):
    """A state that belongs to another model, another precision, or a damaged file."""


class UnavailableError(BraidError, RuntimeError):
    """Something optional that is not present here: a kernel, a package, the network."""


def not_installed(what: str, package: str, extra: str) -> UnavailableError:
    """The error of something that needs an optional package: its name, and the extra of ours that brings it."""
    right = f"pip install '.[{extra}]' in a clone of braidlm gets it"
    return UnavailableError(f"{what} needs the package {package}; {right}")


class BusyError(BraidError, RuntimeError):
    """More work of a kind than is done at a time; it may be tried again soon."""


class TrainingError(BraidError, RuntimeError):
    """A run that cannot go on: losses or gradients that are not finite."""


class BraidWarning(UserWarning):
    """Base of every notice that braidlm gives on purpose. One sentence."""


class NativeWarning(BraidWarning):
    """Notice that the native kernels are missing, and everything runs several times slower."""


class LoadingWarning(BraidWarning):
    """Notice of what a model lost on its way from or to a file: config keys without effect, tensors of other models.

    One sentence a kind of thing, with the names (see `named`).
    """


class LengthWarning(BraidWarning):
    """Notice that a text is longer than a model takes, or than it was measured to be usable."""


def warn_loading(sentence: str) -> None:
    """A `LoadingWarning` (see `warn`)."""
    warn(sentence, LoadingWarning)


def warn(sentence: str, category: type[BraidWarning]) -> None:
    """A warning at the line that called braidlm, however deep in it the reason was found."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __package__:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(shortened(sentence), category, stacklevel=depth)


def named(names: Sequence[str], most: int = 6) -> str:
    """Names for a sentence, "a, b, c and 12 more": at most `most` of them, each cut at 80 characters."""
    shown = ", ".join(name if len(name) <= 80 else f"{name[:77]}..." for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def quoted(value: Any, most: int = 200) -> str:
    """A wrong value for a sentence: as Python writes it, cut at `most` characters; what closes it stays."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}...{text[-1]}"


def as_exception(error: BaseException) -> Exception:
    """`error` as an `Exception`: a library's panic or an exit in a callback must not end the thread that gets it."""
    if isinstance(error, Exception):
        return error
    made = BraidError(f"{type(error).__name__}: {error}")
    made.__cause__ = error
    return made
