"""Loads the compiled extension once, and remembers why if it cannot."""

import functools
import importlib
from types import ModuleType


@functools.cache
def native() -> tuple[ModuleType | None, str | None]:
    """The extension and None, or None and the reason that it is missing."""
    try:
        return importlib.import_module("braidlm._native"), None
    except ImportError as error:
        return None, f"the native extension was not built or does not load ({error})"
