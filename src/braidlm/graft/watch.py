"""Interface to whoever watches a graft: the command line shows what happens, tests listen."""

from contextlib import AbstractContextManager
from typing import Protocol

from ..train.loop import Hooks, Trainer
from .probe import Loss


class Watch(Protocol):
    """Watcher of a graft."""

    def said(self, text: str) -> None:
        """Tells a sentence about what is done."""

    def training(self, stage: str, trainer: Trainer) -> AbstractContextManager[Hooks]:
        """Context in which a trainer of a stage runs, with what it is to call."""
        ...

    def probed(self, name: str, loss: Loss) -> None:
        """Tells what a variant of the donor loses."""
