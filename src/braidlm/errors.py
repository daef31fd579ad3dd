"""The exceptions a caller may catch. Every message is one sentence: what was wrong, where, what would be right."""

from collections.abc import Sequence
from typing import Any


class BraidError(Exception):
    """Base of every error that braidlm raises on purpose."""


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


class TrainingError(BraidError, RuntimeError):
    """A run that cannot go on: losses or gradients that are not finite."""


class LoadingWarning(UserWarning):
    """What loading a model left out: config keys without effect, tensors that belong to no part of the text model.

    One sentence a kind of thing, with the names (see `named`).
    """


def named(names: Sequence[str], most: int = 6) -> str:
    """Names for a sentence, "a, b, c and 12 more": at most `most` of them, each cut at 80 characters."""
    shown = ", ".join(name if len(name) <= 80 else f"{name[:77]}..." for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def quoted(value: Any, most: int = 200) -> str:
    """A wrong value for a sentence: as Python writes it, cut at `most` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
