"""Instruction-set levels of the native kernels, for tests that run at each of them."""

import contextlib
from collections.abc import Iterator

from braidlm.ops import native_loader

LEVELS: list[str] = [] if native_loader.why_not() else native_loader.extension().levels()


@contextlib.contextmanager
def at_level(name: str) -> Iterator[None]:
    """Uses the kernels of one level within the block."""
    module = native_loader.extension()
    before = module.level()
    module.set_level(name)
    try:
        yield
    finally:
        module.set_level(before)
