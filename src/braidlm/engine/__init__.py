"""Many texts with one model at once: a queue, slots that decode together, and states kept for what comes again."""

from .adapter_runners import BASE, AdapterKey
from .after_reasoning import ReasoningFirst
from .engine import Engine, Limits, Load
from .grammar import Grammar
from .request import Piece, QueueFullError, Request, RequestHandle, Snapshot, Usage
from .speculation import MOST as MOST_GUESSES

__all__ = [
    "BASE",
    "MOST_GUESSES",
    "Engine",
    "Grammar",
    "Snapshot",
    "Limits",
    "Load",
    "Piece",
    "QueueFullError",
    "ReasoningFirst",
    "Request",
    "RequestHandle",
    "Usage",
    "AdapterKey",
]
