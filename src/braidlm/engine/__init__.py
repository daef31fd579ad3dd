"""Many texts with one model at once: a queue, slots that decode together, and states kept for what comes again."""

from .after_reasoning import ReasoningFirst
from .engine import Engine, Limits, Load
from .grammar import Grammar
from .lanes import BASE, Variant
from .request import Kept, Piece, QueueFullError, Request, Ticket, Usage
from .speculation import MOST as MOST_GUESSES

__all__ = [
    "BASE",
    "MOST_GUESSES",
    "Engine",
    "Grammar",
    "Kept",
    "Limits",
    "Load",
    "Piece",
    "QueueFullError",
    "ReasoningFirst",
    "Request",
    "Ticket",
    "Usage",
    "Variant",
]
