"""Scheduler, prefix cache and runner: many sequences with one model at once."""

from typing import TYPE_CHECKING

from ..system.lazy import lazy_names

if TYPE_CHECKING:
    from .after_reasoning import ReasoningFirst
    from .engine import Engine, EngineStats
    from .grammar import Grammar
    from .limits import Limits
    from .request import BASE, AdapterKey, QueueFullError, Request, RequestHandle, Snapshot, StreamChunk, Usage

__all__ = [
    "BASE",
    "AdapterKey",
    "Engine",
    "Grammar",
    "Limits",
    "EngineStats",
    "QueueFullError",
    "ReasoningFirst",
    "Request",
    "RequestHandle",
    "Snapshot",
    "StreamChunk",
    "Usage",
]

# The command line describes its options by `limits` alone.
__getattr__ = lazy_names(
    __name__,
    {
        "ReasoningFirst": ".after_reasoning",
        **dict.fromkeys(("Engine", "EngineStats"), ".engine"),
        "Grammar": ".grammar",
        "Limits": ".limits",
        **dict.fromkeys(
            (
                "BASE",
                "AdapterKey",
                "QueueFullError",
                "Request",
                "RequestHandle",
                "Snapshot",
                "StreamChunk",
                "Usage",
            ),
            ".request",
        ),
    },
)
