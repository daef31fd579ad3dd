"""Limits of an engine: how many sequences it runs, in how much memory, in parts of which size."""

from dataclasses import dataclass

from ..errors import InputError
from ..spec import is_whole
from ..system.choices import MOST_SPECULATIVE_TOKENS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of an engine.

    parallel: maximum number of sequences decoded at once. max_queue: maximum number of waiting requests. memory: bytes
    for the states of running requests. cache_memory: bytes for snapshots in the prefix cache. snapshot_interval:
    maximum number of tokens between two snapshots, while that memory lasts. prefill_chunk: tokens of a prompt that go
    through the model in one pass. max_prompt_tokens: maximum number of tokens of a prompt. speculative_tokens: maximum
    number of draft tokens of a sequence in one pass; as many are run as measured times say will pay.
    """

    parallel: int = 16
    max_queue: int = 256
    memory: int = 4 << 30
    cache_memory: int = 1 << 30
    snapshot_interval: int = 256
    prefill_chunk: int = 256
    max_prompt_tokens: int = 1 << 20
    speculative_tokens: int = MOST_SPECULATIVE_TOKENS

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("cache_memory", "speculative_tokens") else 1
            if not is_whole(value) or value < least:
                raise InputError(f"{name} is {value!r}, but must be a whole number from {least}")
        if self.speculative_tokens > MOST_SPECULATIVE_TOKENS:
            raise InputError(
                f"speculative_tokens is {self.speculative_tokens}, but may be at most {MOST_SPECULATIVE_TOKENS}"
            )
