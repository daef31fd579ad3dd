"""Hooks of modules that are there for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def removed_after(hooks: Sequence[RemovableHandle]) -> Iterator[None]:
    """Context at whose end registered hooks are removed, whatever happened in it."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
