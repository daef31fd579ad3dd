"""Many texts with one model at once: a queue, slots that decode together, and states kept for what comes again."""

from .engine import Engine, Limits, Load
from .grammar import Grammar
from .request import Kept, Piece, QueueFullError, Request, Ticket, Usage

__all__ = ["Engine", "Grammar", "Kept", "Limits", "Load", "Piece", "QueueFullError", "Request", "Ticket", "Usage"]
