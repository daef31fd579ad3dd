"""Limits of an engine: how many sequences it runs, in how much memory, in parts of which size."""

from dataclasses import dataclass
from typing import Annotated

from ..system.choices import MOST_SPECULATIVE_TOKENS
from ..system.settings import Setting, check_settings


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of an engine, each as its setting describes it."""

    parallel: Annotated[int, Setting("Maximum number of sequences decoded at once.", least=1)] = 16
    max_queue: Annotated[int, Setting("Maximum number of waiting requests.", least=1)] = 256
    memory: Annotated[int, Setting("Memory for the states of running requests.", least=1, in_bytes=True)] = 4 << 30
    cache_memory: Annotated[int, Setting("Memory for snapshots in the prefix cache.", least=0, in_bytes=True)] = 1 << 30
    snapshot_interval: Annotated[
        int, Setting("Maximum number of tokens between two snapshots in the prefix cache.", least=1)
    ] = 256
    prefill_chunk: Annotated[int, Setting("Number of a prompt's tokens that one pass runs.", least=1)] = 256
    max_prompt_tokens: Annotated[int, Setting("Maximum number of tokens of a prompt.", least=1)] = 1 << 20
    speculative_tokens: Annotated[
        int,
        Setting(
            "Maximum number of draft tokens per sequence and step; as many run as measured times say will pay.",
            least=0,
            most=MOST_SPECULATIVE_TOKENS,
        ),
    ] = MOST_SPECULATIVE_TOKENS

    def __post_init__(self) -> None:
        check_settings(self)
