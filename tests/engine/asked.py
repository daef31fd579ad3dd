"""Requests of tests: prompts, what is asked, what comes, and what the naive loop says."""

from collections.abc import Sequence

import torch

from braidlm import LanguageModel
from braidlm.engine import Limits, Request, RequestHandle
from braidlm.generation.sampling import Sampling
from tests.generation.naively import naively

SMALL = Limits(parallel=4, snapshot_interval=8, prefill_chunk=16)


def prompt(model: LanguageModel, length: int, seed: int = 0) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(model.spec.vocab, (length,), generator=generator).tolist())


def asked(ids: Sequence[int], tokens: int = 12, **options: object) -> Request:
    more = {name: options.pop(name) for name in ("n", "message_boundaries", "client") if name in options}
    return Request(ids=tuple(ids), sampling=Sampling(max_tokens=tokens, **options), **more)


def made(handle: RequestHandle) -> list[list[int]]:
    """The ids of every copy."""
    found: list[list[int]] = [[] for _ in range(handle.request.n)]
    for copy, token in handle:
        found[copy].append(token.id)
    return found


def alone(model: LanguageModel, request: Request) -> list[list[int]]:
    """What the naive loop generates."""
    return [
        [token.id for token in naively(model, list(request.ids), request.sampling_of(index))]
        for index in range(request.n)
    ]
