"""Naive generation: one forward pass for each token. The oracle that tests hold the engine against, and nothing else.

It knows no batches, chunks, snapshots, decode plans or draft tokens.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import torch

from ..model.model import Output
from ..ops import Segments
from ..state.batch import BatchState
from ..text.marked_stream import Detokenizer
from .choice import as_numbers
from .continuation import Continuation, Token
from .sampling import Sampling


@torch.no_grad()
def generate_naively(
    run: Callable[..., Output],
    prompt: Sequence[int],
    state: BatchState,
    sampling: Sampling,
    *,
    ends: Collection[int] = (),
    detokenizer: Detokenizer | None = None,
) -> Iterator[Token]:
    """Yields the tokens after one prompt; `run` is a model, or called like one, and `state` has one row and stays."""
    continuation = Continuation(prompt, sampling, detokenizer)
    max_positions, length = state.spec.max_positions, state.lengths[0]
    ids = list(prompt)
    while ids:
        out = run(torch.tensor(ids), Segments((len(ids),)), state, logits="last")
        assert out.logits is not None
        state, length = out.state, length + len(ids)
        room = 1 if max_positions is None else max_positions - length
        token = continuation.step(as_numbers(out.logits[0]), ends, room)
        ids = [token.id] if token.finish is None else []
        yield token
