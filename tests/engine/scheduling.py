"""A scheduler without a model: requests by their lengths, and steps that are as if they had been run."""

from collections.abc import Callable
from collections.abc import Sequence as Items

import numpy as np

from braidlm.engine.limits import Limits
from braidlm.engine.request import Request, RequestHandle
from braidlm.engine.scheduler import Scheduler
from braidlm.engine.sequence import Sequence
from braidlm.engine.snapshot_policy import SnapshotPolicy
from braidlm.engine.step import DecodeCapabilities, Step
from braidlm.generation.continuation import Continuation
from braidlm.generation.sampling import Sampling

VOCAB = 50
DECODES_EIGHT = DecodeCapabilities(max_decode_tokens=8, can_roll_back=True)
PLAIN = DecodeCapabilities(max_decode_tokens=1, can_roll_back=False)


def asked(length: int, tokens: int = 4, **options: object) -> Request:
    return Request(ids=tuple(n % VOCAB for n in range(length)), sampling=Sampling(max_tokens=tokens), **options)


def scheduler_of(
    limits: Limits,
    policy: SnapshotPolicy | None = None,
    capabilities: DecodeCapabilities = PLAIN,
    state_bytes: Callable[[Request], int] = lambda request: request.n,
    **options: int,
) -> Scheduler:
    policy = policy or SnapshotPolicy(limits.snapshot_interval)
    return Scheduler(limits, policy, state_bytes, capabilities, vocab=VOCAB, **options)


def wait(scheduler: Scheduler, request: Request) -> RequestHandle:
    handle = RequestHandle(request)
    scheduler.waiting.add(handle, request.client, len(request.ids))
    return handle


def begin(scheduler: Scheduler, capabilities: DecodeCapabilities = PLAIN, known: int = 0) -> list[RequestHandle]:
    """Admits what fits, with so many tokens of each prompt known; the requests."""
    admitted = scheduler.admit()
    for handle in admitted:
        request = handle.request
        sequences = [Sequence(handle, index, Continuation(request.ids, request.sampling)) for index in range(request.n)]
        scheduler.begin(sequences, known, capabilities)
    return admitted


def run(scheduler: Scheduler, step: Step, token: int = 7) -> dict[Sequence, list[int]]:
    """Commits a step whose every choice is `token`; the tokens by sequence. Sequences that end are removed."""
    logits_V = np.zeros(VOCAB, np.float32)
    logits_V[token] = 1
    for sequence, chunk in step.prefills:
        sequence.position = chunk.end
    choosing: Items[tuple[Sequence, int]] = [(item.sequence, len(item.tokens)) for item in step.decodes]
    choosing += [(each, 1) for first in step.starts if not first.has_input for each in (first, *first.forks)]
    chosen = {}
    for sequence, count in choosing:
        tokens = sequence.choose_tokens(np.broadcast_to(logits_V, (count, VOCAB)))
        chosen[sequence] = [made.id for made in tokens]
        if tokens and tokens[-1].finish is not None:
            scheduler.remove(sequence)
            if not scheduler.sequences_of(sequence.handle):
                scheduler.end(sequence.handle)
    return chosen
