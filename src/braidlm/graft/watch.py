"""Interface to whoever watches a graft: the command line shows what happens, tests listen."""

from typing import Protocol

from ..train.loop import Trainer
from .probe import Loss


class Watch(Protocol):
    """Watcher of a graft."""

    def said(self, text: str) -> None:
        """Tells a sentence about what is done."""

    def train(self, stage: str, trainer: Trainer) -> int:
        """Runs a trainer to its end, with whatever is shown of it; 0, or the signal that ended it."""
        ...

    def probed(self, name: str, loss: Loss) -> None:
        """Tells what a variant of the donor loses."""
