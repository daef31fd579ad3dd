"""Completions of many prompts by an engine, which reads what they begin with in common once."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ..api.language_model import LanguageModel
from ..engine import Limits, Request, RequestHandle
from ..engine.generate import PREFILL_CHUNK
from ..generation.sampling import Sampling
from ..system.progress import ProgressFunction
from ..text.common_prefix import common_length
from .prefix_tree import LEAST

# Snapshots that prompts which begin alike start from.
_CACHE_MEMORY = 1 << 30


class Completions(NamedTuple):
    """Texts by prompt, and the number of tokens that were run for them, rejected drafts among them."""

    texts: list[str]
    computed: int


def complete(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    *,
    parallel: int,
    kv_dtype: str | None = None,
    progress: ProgressFunction | None = None,
) -> Completions:
    """Completes prompts, at most `parallel` at once; `progress(done, total)` is called for each prompt that is read.

    They are read in their order as sequences of ids, with a snapshot where one parts from the next.
    """
    order = sorted(range(len(prompts)), key=lambda number: tuple(prompts[number]))
    shared = [0, *(common_length(prompts[one], prompts[other]) for one, other in pairwise(order)), 0]
    limits = Limits(
        parallel=parallel,
        max_queue=len(prompts) + 1,
        memory=sys.maxsize,
        cache_memory=_CACHE_MEMORY,
        prefill_chunk=PREFILL_CHUNK,
        max_prompt_tokens=sys.maxsize,
    )
    handles: dict[int, RequestHandle] = {}
    texts = [""] * len(prompts)
    with model.engine(kv_dtype, limits) as engine:
        for done, number in enumerate(order):
            ends = {length for length in shared[done : done + 2] if length >= LEAST}
            request = Request(
                ids=tuple(prompts[number]), sampling=samplings[number], message_boundaries=tuple(sorted(ends))
            )
            handles[number] = engine.submit(request)
            # The next prompt begins with a snapshot of this one only once this one is read.
            texts[number] = next(iter(handles[number])).token.text
            if progress is not None:
                progress(done + 1, len(prompts))
        generated = 0
        for number, handle in handles.items():
            rest = [chunk.token.text for chunk in handle]
            texts[number] += "".join(rest)
            generated += len(rest)
        rejected = engine.stats.draft_tokens - engine.stats.accepted_tokens
    read = sum(one.usage.recomputed + one.usage.computed for one in handles.values() if one.usage is not None)
    return Completions(texts, read + generated + rejected)
