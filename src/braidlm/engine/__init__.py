"""Scheduler, prefix cache and runner: many sequences with one model at once."""

from .adapter_runners import BASE, AdapterKey
from .after_reasoning import ReasoningFirst
from .engine import Engine, Load
from .grammar import Grammar
from .limits import Limits
from .request import QueueFullError, Request, RequestHandle, Snapshot, StreamChunk, Usage

__all__ = [
    "BASE",
    "Engine",
    "Grammar",
    "Snapshot",
    "Limits",
    "Load",
    "StreamChunk",
    "QueueFullError",
    "ReasoningFirst",
    "Request",
    "RequestHandle",
    "Usage",
    "AdapterKey",
]
