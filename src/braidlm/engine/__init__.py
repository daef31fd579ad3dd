"""Scheduler, prefix cache and runner: many sequences with one model at once."""

from .adapter_runners import BASE, AdapterKey
from .after_reasoning import ReasoningFirst
from .engine import Engine, Limits, Load
from .grammar import Grammar
from .request import Piece, QueueFullError, Request, RequestHandle, Snapshot, Usage

__all__ = [
    "BASE",
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
