"""Names of metadata in GGUF files: one that is misspelt is refused where a default would take its place in silence.

Files of other tools hold names that are not known here, and those are left alone; but a name that differs from a known
one in a character, which the file lacks, is that one damaged.
"""

from collections.abc import Collection, Iterator

from gguf import constants

from ...errors import CheckpointError
from ...system.suggest import require_spelling

# Read here, and not in llama.cpp's list: of files of 2023, and of Ollama's.
_MORE = ("{arch}.rope.scale_linear", "tokenizer.ggml.eos_token_ids")


def check_keys(keys: Collection[str], arch: str) -> None:
    """Raises `CheckpointError` for a key that is a known one misspelt."""
    known = {name.replace("{arch}", arch) for name in (*_names(constants.Keys), *_MORE)}
    try:
        require_spelling(keys, {name for name in known if "{" not in name and _matters(name)}, "it has the key")
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def _matters(name: str) -> bool:
    """Whether a key has an effect, beyond describing the file to people."""
    return not name.startswith("general.") or name in ("general.architecture", "general.alignment")


def _names(holder: type) -> Iterator[str]:
    """The texts of a class of constants, and of the classes in it."""
    for name, value in vars(holder).items():
        if isinstance(value, type):
            yield from _names(value)
        elif isinstance(value, str) and not name.startswith("_"):
            yield value
