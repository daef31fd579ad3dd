"""Garbage collector of Python while a process starts: torch alone is a million objects, none of which is garbage."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Context of a process's start: what is made in it stays, and is neither looked through then nor later.

    Does nothing where torch is imported already: what lives there may be garbage yet.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
