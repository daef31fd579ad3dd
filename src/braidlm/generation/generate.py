"""Plain loop of generation: prefill, then one token a row at a time. Every faster way is held against it.

It knows tokens, states and stop texts; it does not know where prompts come from or who waits for
them. Rows of one call share each pass over the weights, and each gives the tokens that it would
give alone.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor

from ..decode import decode
from ..decode.slots import Slots, put_all, slots_of, take_all
from ..errors import ContextLengthError, InputError
from ..model.model import Model, Output
from ..ops import Segments
from ..state.batch import BatchState
from ..text.marked_stream import Detokenizer
from .continuation import Continuation, Token
from .sampling import Sampling, check_sampling

PREFILL_CHUNK = 2048

# A model, or a function that is called like one.
Run = Callable[..., Output]


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    state: BatchState,
    samplings: Sequence[Sampling],
    *,
    ends: Collection[int] = (),
    texts: Sequence[Detokenizer] | None = None,
    run: Run | None = None,
) -> Iterator[tuple[int, Token]]:
    """Yields (prompt's number, token) as tokens are made, until every prompt has finished.

    `state` has one row a prompt and is moved along: at the end, or when the caller stops early,
    each row has seen its prompt and its tokens, but for the one that it was given last. `ends`
    are ids that end a text. `run` takes the model's place where prompts are read.
    """
    if len(prompts) != len(state):
        raise InputError(f"there are {len(prompts)} prompts, but the state has {len(state)} rows")
    if any(len(prompt) == 0 for prompt in prompts):
        raise InputError("a prompt is empty; give at least one token for every row")
    limit = model.spec.max_positions
    for prompt, length in zip(prompts, state.lengths, strict=True):
        check_length(length + len(prompt), limit)
    for sampling in samplings:
        check_sampling(sampling, model.spec.vocab)
    rows = [
        Continuation(prompt, sampling, texts[i] if texts else None)
        for i, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
    ]
    lengths = [length + len(prompt) for length, prompt in zip(state.lengths, prompts, strict=True)]
    # One token a row, of a text that goes on, is a step like any other.
    begun = decode.available(model) and all(len(prompt) == 1 for prompt in prompts)
    logits_RV = None if begun else prefill(run or model, prompts, state)
    slots = slots_of(model, state, len(state))
    put_all(slots, state)
    try:
        if logits_RV is None:
            logits_RV = slots.step(torch.tensor([prompt[0] for prompt in prompts]), list(range(len(prompts))))
        yield from _loop(rows, logits_RV, slots, lengths, limit, ends)
    finally:
        take_all(slots, state)


def _loop(
    rows: list[Continuation],
    logits_RV: Tensor,
    slots: Slots,
    lengths: list[int],
    limit: int | None,
    ends: Collection[int],
) -> Iterator[tuple[int, Token]]:
    """One token for every row that goes on, and one step of all of them, until none does."""
    running = list(range(len(rows)))
    while running:
        going: list[int] = []
        for place, index in enumerate(running):
            room = 1 if limit is None else limit - lengths[index] - 1
            token = rows[index].step(logits_RV[place], ends, room)
            if token.finish is None:
                going.append(index)
            yield index, token
        running = going
        if running:
            logits_RV = slots.step(torch.tensor([rows[index].seen[-1] for index in running]), running)
            for index in running:
                lengths[index] += 1


def prefill(run: Run, prompts: Sequence[Sequence[int]], state: BatchState) -> Tensor:
    """Runs all prompts, `PREFILL_CHUNK` tokens a row at a time; the logits after each prompt, [R, V]."""
    last: dict[int, Tensor] = {}
    for begin in range(0, max(len(prompt) for prompt in prompts), PREFILL_CHUNK):
        parts = [list(prompt[begin : begin + PREFILL_CHUNK]) for prompt in prompts]
        segments = Segments(tuple(len(part) for part in parts))
        ids = torch.tensor([token for part in parts for token in part], device=state.device)
        out = run(ids, segments, state, logits="last")
        state.commit(out.state)
        assert out.logits is not None
        present = [row for row, part in enumerate(parts) if part]
        last.update(zip(present, out.logits, strict=True))
    return torch.stack([last[row] for row in range(len(prompts))])


def check_ids(ids: Sequence[int], vocab: int) -> None:
    """`InputError` unless all of `ids` are ids of a model with so many."""
    wrong = next((token for token in ids if not 0 <= token < vocab), None)
    if wrong is not None:
        raise InputError(f"token id {wrong} is out of range: this model has the ids 0 to {vocab - 1}")


def check_length(length: int, limit: int | None) -> None:
    """Refuses more tokens than the model declares: its positions beyond were never trained."""
    if limit is not None and length > limit:
        raise ContextLengthError(f"{length} tokens are more than the {limit} that this model declares it can take")
