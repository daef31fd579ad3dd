"""The exceptions a caller may catch. Every message is one sentence: what was wrong, where, what would be right."""


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
