"""Generation after several prompts by an engine of their own, which the caller steps: no thread, and nothing is left.

Prompts that come together share each pass over the weights; each sequence gives, within rounding, what it would give
alone. States go in and come out.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from ..errors import InputError
from ..generation.bounds import check_length
from ..generation.continuation import Token
from ..generation.sampling import Sampling
from ..model.model import Model
from ..state.batch import BatchState
from ..text.marked_stream import Detokenizer
from .engine import Engine
from .length_notice import LengthNotice
from .limits import Limits
from .model_runner import ForwardFunction
from .request import Request, RequestHandle, StreamChunk

PREFILL_CHUNK = 2048


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    state: BatchState,
    samplings: Sequence[Sampling],
    *,
    ends: Collection[int] = (),
    new_detokenizer: Callable[[], Detokenizer] | None = None,
    run: ForwardFunction | None = None,
    ops: str = "auto",
    length_notice: LengthNotice | None = None,
) -> Iterator[tuple[int, Token]]:
    """Yields (prompt's number, token) as tokens are made, until every sequence has finished.

    `state` has one row a prompt and is moved along: at the end, or when the caller stops early, each row has seen its
    prompt and its tokens, but for the one that it was given last; a row whose prompt was not run to its end by then,
    and all rows after an error, are as they were. `ends` are ids that end a sequence. `run` takes the model's place in
    prefill. `length_notice` warns beyond the usable length. Weights must not change before the end.
    """
    if len(prompts) != len(state):
        raise InputError(f"there are {len(prompts)} prompts, but the state has {len(state)} rows")
    if any(len(prompt) == 0 for prompt in prompts):
        raise InputError("a prompt is empty; give at least one token for every row")
    requests = [
        _request(prompt, state, row, sampling, model.spec.max_positions)
        for row, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
    ]
    empty = state.fork(0)
    empty.reset()
    # No draft tokens: the state must not be ahead of what the caller was given.
    limits = Limits(
        parallel=len(prompts),
        max_queue=len(prompts),
        memory=sys.maxsize,
        cache_memory=0,
        prefill_chunk=PREFILL_CHUNK,
        max_prompt_tokens=sys.maxsize,
        speculative_tokens=0,
    )
    engine = Engine(
        model,
        empty.fork,
        run=run,
        ends=ends,
        new_detokenizer=new_detokenizer,
        limits=limits,
        ops=ops,
        own_thread=False,
        prompts_per_pass=len(prompts),
        length_notice=length_notice,
    )
    handles = [engine.submit(request) for request in requests]
    try:
        yield from _step_through(engine, handles)
        _move_along(state, engine, handles)
    except GeneratorExit:
        _move_along(state, engine, handles)
        raise
    finally:
        engine.close()


def _move_along(state: BatchState, engine: Engine, handles: Sequence[RequestHandle]) -> None:
    """Ends what still runs, and gives `state` the states of all rows that have begun to decode."""
    for handle in handles:
        handle.cancel()
    engine.step()
    for handle in handles:
        for item in handle.arrived():
            if isinstance(item, Exception):
                raise _cause_of(item)
    for row, handle in enumerate(handles):
        if handle.snapshots:
            state.set_sequence(row, handle.snapshots[-1].state)


def _cause_of(error: Exception) -> BaseException:
    """The error that ended a request; for an interrupt of the caller's own thread, that interrupt."""
    cause = error.__cause__
    return cause if cause is not None and not isinstance(cause, Exception) else error


def _request(
    prompt: Sequence[int], state: BatchState, row: int, sampling: Sampling, max_positions: int | None
) -> Request:
    """Request of one row; its tokens, prompt and all, are at most as many as the model declares."""
    seen = state.lengths[row] + len(prompt)
    check_length(seen, max_positions)
    if max_positions is not None:
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, max(1, max_positions - seen)))
    return Request(ids=tuple(prompt), sampling=sampling, state=state.sequences[row], wants_snapshots=True)


def _step_through(engine: Engine, handles: Sequence[RequestHandle]) -> Iterator[tuple[int, Token]]:
    running = dict(enumerate(handles))
    while running:
        engine.step()
        for row, handle in list(running.items()):
            for item in handle.arrived():
                if isinstance(item, StreamChunk):
                    yield row, item.token
                elif item is None:
                    del running[row]
                else:
                    raise _cause_of(item)
