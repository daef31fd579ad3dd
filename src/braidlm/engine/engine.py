"""The engine: admits requests, prefills prompts in chunks, and decodes all sequences together, in a thread of its own.

The ends of a prompt's chunks depend on that prompt alone, whoever else is there, and a decode step gives each sequence
what it gives alone: so a request's tokens depend on the snapshots of its prompt, but not on what runs beside it.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch

from ..adapters import Variants
from ..errors import ContextLengthError, InputError, UnavailableError
from ..generation.choice import scores
from ..generation.continuation import Constraint, Continuation, Token
from ..generation.generate import Run, check_ids, check_length
from ..generation.sampling import check_sampling
from ..model.model import Logits, Model
from ..ops import dispatch
from ..state.batch import BatchState
from ..state.sequence import SequenceState
from ..state.state_file import Owner
from ..system.memory import give_back
from ..text.marked_stream import Detokenizer, MarkedStream
from .adapter_runners import BASE, AdapterKey, AdapterRunners, adapter_key_of
from .after_reasoning import AfterReasoning
from .decoding_sequence import DecodingSequence
from .grammar import Compile
from .limits import Limits
from .prefix_cache import PrefixCache
from .request import Request, RequestHandle, StreamChunk, as_exception
from .scheduler import PrefillThrottle, RequestQueue
from .snapshot_policy import Scope, SnapshotPolicy
from .speculation import Speculation

Result = TypeVar("Result")

# Freed memory goes back to the system once in so many seconds of work, and after as many without any.
_RELEASE_MEMORY_S = 30.0

# Logits that are held at once where those of every token of a prompt are needed: 64 MiB of them.
_LOGITS = 1 << 24


class Load(NamedTuple):
    """Load of an engine: requests by where they are, bytes of states, and tokens of speculative decoding so far."""

    waiting: int
    prefill: int
    decode: int
    state_bytes: int
    cache_bytes: int
    cache_snapshots: int
    draft_tokens: int
    accepted_tokens: int


@dataclass(eq=False)
class _RunningRequest:
    """A request between admission and its end: first in prefill, then in decode."""

    handle: RequestHandle
    state: SequenceState  # after the part of the prompt that passes have run
    bytes: int  # promised to its states
    slots: list[int]  # of the sequences that go on
    sequences: dict[int, DecodingSequence] = field(default_factory=dict)  # by slot; empty in prefill
    snapshot_positions: Sequence[int] = ()  # in the part of the prompt that decode steps run

    @property
    def ids(self) -> tuple[int, ...]:
        return self.handle.request.ids

    @property
    def adapter_key(self) -> AdapterKey:
        return adapter_key_of(self.handle.request)


class Engine:
    """Engine that runs requests on one model. Close it, or use it in a `with` statement: it has a thread of its own.

    Weights may be changed while nothing runs: snapshots of the old ones are dropped before the next request begins.
    Small changes through `.data` may escape it (see `Weights.notice_edits`).
    """

    def __init__(
        self,
        model: Model,
        new_state: Callable[[], BatchState],
        *,
        run: Run | None = None,
        ends: Collection[int] = (),
        new_detokenizer: Callable[[], Detokenizer] | None = None,
        compile_grammar: Compile | None = None,
        limits: Limits | None = None,
        ops: str = "auto",
        variants: Variants | None = None,
    ) -> None:
        """`new_state` makes an empty sequence's state at the precision to run at; `run` and `ends` as in `generate`.

        `new_detokenizer` makes the detokenizer of one sequence; without it tokens have no text. `compile_grammar`
        compiles requests' grammars; without it they are refused. `variants` has adapters and initial states by name.
        """
        self.limits = limits or Limits()
        self._model = model
        self._ends = ends
        self._new_detokenizer = new_detokenizer
        self._compile_grammar = compile_grammar
        self._ops = ops
        with dispatch.using(ops), torch.no_grad():
            self._runners = AdapterRunners(model, run or model, new_state, self.limits.parallel, variants)
        spec, precision = model.spec, new_state().precision
        self._state_bytes = lambda length: spec.state_bytes(length, dtype=precision.name, kv_dtype=precision.kv)
        self._snapshots = SnapshotPolicy(
            spec, self.limits.cache_memory, self.limits.snapshot_interval, self._state_bytes(0)
        )
        self._waiting: RequestQueue[RequestHandle] = RequestQueue(self.limits.max_queue)
        self._prefilling: deque[_RunningRequest] = deque()
        self._decoding: list[_RunningRequest] = []
        self._free_slots = list(range(self.limits.parallel))
        self._throttle = PrefillThrottle()
        self._speculation = Speculation(self.limits.speculative_tokens if self._runners.base.can_roll_back else 0)
        self._draft_tokens = self._accepted_tokens = 0
        self._tasks: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._task_is_next = False
        self._changed = threading.Condition()
        self._closing = False
        self.failure: Exception | None = None  # that ended the thread
        self._thread = threading.Thread(target=self._loop, name="braidlm-engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, request: Request) -> RequestHandle:
        """Puts a request into the queue; `QueueFullError` if too many wait, `InputError` if it can never run.

        `StateError` if it brings states of another model, adapter, initial state or precision.
        """
        check_length(len(request.ids), self._model.spec.max_positions)
        if len(request.ids) > self.limits.max_prompt_tokens:
            raise ContextLengthError(
                f"the prompt has {len(request.ids)} tokens, but may have {self.limits.max_prompt_tokens}"
            )
        check_ids(request.ids, self._model.spec.vocab)
        check_sampling(request.sampling, self._model.spec.vocab)
        if request.n > self.limits.parallel:
            raise InputError(f"n is {request.n}, but at most {self.limits.parallel} sequences are decoded at once")
        if self._bytes_of(request) > self.limits.memory:
            raise InputError(
                f"the request needs {self._bytes_of(request)} bytes of state, but there are {self.limits.memory}"
            )
        constraint = None
        if request.grammar is not None:
            if self._compile_grammar is None:
                raise InputError("the model has no tokenizer, so that no grammar can be followed")
            constraint = self._after_reasoning(request, self._compile_grammar(request.grammar))
        self._runners.require(adapter_key_of(request))
        if request.snapshots:
            request.require_identity(self._runners.identity_of(adapter_key_of(request)))
        handle = RequestHandle(request, constraint)
        with self._changed:
            if self._closing:
                raise InputError("the engine is closed")
            self._waiting.add(handle, request.client, len(request.ids) + request.sampling.max_tokens)
            self._changed.notify()
        return handle

    def run(self, work: Callable[[], Result]) -> Result:
        """Runs `work` in the engine's thread, between two steps; returns its result or raises its error."""
        task: Future[Result] = Future()
        with self._changed:
            if self._closing:
                raise InputError("the engine is closed")
            self._tasks.append((task, work))
            self._changed.notify()
        return task.result()

    def prepare_rules(self) -> None:
        """Starts the compiler of grammars ahead of the first request that needs it, where there is one."""
        if self._compile_grammar is not None:
            with contextlib.suppress(UnavailableError):  # which that request is told
                self._compile_grammar.prepare()

    @property
    def most_prompt_tokens(self) -> int:
        """Number of tokens that a prompt may have: the model's context, or less where the limits say so."""
        return min(self.limits.max_prompt_tokens, self._model.spec.max_positions or self.limits.max_prompt_tokens)

    @property
    def cache(self) -> PrefixCache:
        """The prefix cache."""
        return self._snapshots.cache

    @property
    def owner(self) -> Owner:
        """Owner of the states of requests without an adapter or an initial state."""
        return self._runners.owner_of(BASE)

    def knows(self, ids: Sequence[int], cache_salt: str = "") -> bool:
        """Whether there is a snapshot after `ids` for requests of this salt, without adapter and initial state."""
        return self.run(lambda: self._snapshots.has_snapshot(ids, Scope(BASE, cache_salt)))

    @property
    def load(self) -> Load:
        """Current load."""
        with self._changed:
            waiting = len(self._waiting)
        running = [*self._prefilling, *self._decoding]
        return Load(
            waiting, len(self._prefilling), len(self._decoding), sum(job.bytes for job in running),
            self.cache.nbytes, self.cache.snapshots, self._draft_tokens, self._accepted_tokens,
        )  # fmt: skip

    def close(self) -> None:
        """Ends all requests, each with an error, and the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _bytes_of(self, request: Request) -> int:
        longest = len(request.ids) + request.sampling.max_tokens
        return request.n * self._state_bytes(min(longest, self._model.spec.max_positions or longest))

    def _loop(self) -> None:
        failure: Exception = InputError("the engine was closed")
        try:
            with dispatch.using(self._ops), torch.no_grad():
                released = time.monotonic()
                while self._wait_for_work():
                    for handle in self._admit():
                        self._try_begin(handle)
                    self._step()
                    if time.monotonic() - released > _RELEASE_MEMORY_S:
                        self._release_memory()
                        released = time.monotonic()
        except BaseException as error:  # whatever has happened, nobody may wait for ever
            failure = self.failure = as_exception(error)
        with self._changed:
            self._closing = True
            left = self._waiting.remove(lambda _: True)
        tasks, running = list(self._tasks), [*self._prefilling, *self._decoding]
        for gone in (self._tasks, self._prefilling, self._decoding):
            gone.clear()
        for task, _ in tasks:
            task.set_exception(failure)
        for handle in (*left, *(job.handle for job in running)):
            handle.finish(failure)

    def _wait_for_work(self) -> bool:
        """Waits until there is something to do; False when the engine closes."""
        rested = False
        with self._changed:
            while not (self._closing or self._tasks or self._prefilling or self._decoding or len(self._waiting)):
                if not self._changed.wait(None if rested else _RELEASE_MEMORY_S):
                    rested = True
                    self._release_memory()
            return not self._closing

    def _release_memory(self) -> None:
        if self._model.device.type == "cpu":
            give_back()

    def _admit(self) -> list[RequestHandle]:
        """Takes the requests that begin now from the queue; those that were cancelled there end."""
        with self._changed:
            gone = self._waiting.remove(lambda handle: handle.cancelled)
        for handle in gone:
            handle.finish()
        used = sum(job.bytes for job in (*self._prefilling, *self._decoding))
        slots, found = len(self._free_slots), []

        def fits(handle: RequestHandle) -> bool:
            return handle.request.n <= slots and used + self._bytes_of(handle.request) <= self.limits.memory

        with self._changed:
            while (taken := self._waiting.take(fits)) is not None:
                found.append(taken)
                used += self._bytes_of(taken.request)
                slots -= taken.request.n
        return found

    def _try_begin(self, handle: RequestHandle) -> None:
        """Begins a request; if that fails, it alone ends."""
        try:
            self._begin(handle)
        except BaseException as error:
            handle.finish(error)

    def _begin(self, handle: RequestHandle) -> None:
        """Finds the longest known prefix of the prompt, and gives the request its slots."""
        if not (self._prefilling or self._decoding) and self._runners.refresh():
            self.cache.clear()
        request = handle.request
        runner = self._runners.runner_of(adapter_key_of(request))
        found = self._snapshots.find_prefix(request, runner.owner.identity)
        handle.usage = found.usage
        slots = [self._free_slots.pop() for _ in range(request.n)]
        self._prefilling.append(_RunningRequest(handle, found.state or runner.empty, self._bytes_of(request), slots))

    def _step(self) -> None:
        for job in [job for job in (*self._prefilling, *self._decoding) if job.handle.cancelled]:
            self._cancel(job)
        busy, suffix_tokens = bool(self._decoding), 0
        if (self._prefilling or self._tasks) and self._throttle.may_prefill(busy):
            begun = time.perf_counter()
            # Prompts and tasks in turn, so that neither waits for all of the other.
            self._task_is_next = not self._prefilling or (bool(self._tasks) and not self._task_is_next)
            if self._task_is_next:
                _run_task(*self._tasks.popleft())
            else:
                suffix_tokens = self._prefill_some()
            self._throttle.prefilled(time.perf_counter() - begun, busy)
        if self._decoding:
            begun = time.perf_counter()
            self._decode()
            seconds = time.perf_counter() - begun
            if suffix_tokens:
                self._throttle.did_both(seconds, busy)
            else:
                self._throttle.decoded(seconds)

    def _prefill_some(self) -> int:
        """Runs a chunk of the next prompt, or leaves short suffixes of several to the next step; tokens of these."""
        tokens = 0
        while self._prefilling:
            suffix = self._suffix_length(job := self._prefilling[0])
            if tokens and not 0 < suffix <= self._runners.base.max_decode_tokens - tokens:
                break
            self._prefilling.popleft()
            try:
                self._prefill(job)
            except BaseException as error:
                self._end_request(job, error)
            tokens += suffix
            if not suffix:
                break
        return tokens

    def _suffix_length(self, job: _RunningRequest) -> int:
        """Number of a prompt's tokens that a decode step runs without a pass before; 0 if a pass is needed first."""
        begin, short = job.state.length, self._runners.runner_of(job.adapter_key).max_decode_tokens
        return len(job.ids) - begin if self._snapshots.prefill_end(job.handle.request, begin, short) == begin else 0

    def _prefill(self, job: _RunningRequest) -> None:
        """Runs the prompt's next chunk; after the last one the request's sequences are in decode."""
        request, begin = job.handle.request, job.state.length
        runner, logits = self._runners.runner_of(job.adapter_key), None
        last, chunk = self._snapshots.prefill_end(request, begin, runner.max_decode_tokens), self._chunk_size(request)
        end = last if last - begin <= chunk else (begin // chunk + 1) * chunk
        if begin < end:
            logits = self._prefill_pass(job, end)
        if end < last:
            self._prefilling.append(job)
            return
        if not request.generates:
            self._end_request(job)
            return
        self._decoding.append(job)
        job.snapshot_positions = self._snapshots.snapshot_positions(request, end, len(job.ids))
        parts = pairwise((end, *job.snapshot_positions, len(job.ids)))
        suffix = [job.ids[start:stop] for start, stop in parts if start < stop]
        for index, slot in enumerate(job.slots):
            continuation, limit = self._continuation(job.handle, index), self._model.spec.max_positions
            job.sequences[slot] = DecodingSequence(index, continuation, self._ends, limit, suffix)
            runner.slots.put(slot, job.state)
        if logits is not None:
            for slot in list(job.sequences):
                self._deliver(job, slot, job.sequences[slot].choose_tokens(logits[-1:]))

    def _chunk_size(self, request: Request) -> int:
        """Number of a prompt's tokens in one pass: fewer where the logits of all of them are needed."""
        chunk, most = self.limits.prefill_chunk, max(1, _LOGITS // self._model.spec.vocab)
        return chunk if request.prompt_logprobs is None else min(chunk, most)

    def _prefill_pass(self, job: _RunningRequest, end: int) -> torch.Tensor | None:
        """Runs the prompt up to `end` and takes snapshots on the way; the logits that are needed, [n, V]."""
        request, begin = job.handle.request, job.state.length
        positions = self._snapshots.snapshot_positions(request, begin, end)
        wanted: Logits = "last" if end == len(job.ids) else None
        if request.prompt_logprobs is not None:
            wanted = "all"
        job.state, marked, logits = self._runners.runner_of(job.adapter_key).prefill(
            job.state, job.ids[begin:end], [position - begin for position in positions], logits=wanted
        )
        for position, state in zip(positions, marked, strict=True):
            self._snapshots.add_snapshot(job.ids[:position], state, job.handle.request)
        if request.prompt_logprobs is not None and logits is not None:
            after = job.ids[begin + 1 : end + 1]
            job.handle.prompt_logprobs += scores(logits[: len(after)], after, request.prompt_logprobs)
        return logits

    def _continuation(self, handle: RequestHandle, index: int) -> Continuation:
        constraint = handle.constraint() if handle.constraint else None
        detokenizer = self._detokenizer_of(handle.request)
        return Continuation(handle.request.ids, handle.request.sampling_of(index), detokenizer, constraint)

    def _detokenizer_of(self, request: Request) -> Detokenizer | None:
        """Detokenizer of one of a request's sequences, which shows its visible tokens."""
        if self._new_detokenizer is None or not request.visible_tokens:
            return self._new_detokenizer and self._new_detokenizer()
        return MarkedStream(self._new_detokenizer(), request.visible_tokens)

    def _after_reasoning(self, request: Request, rule: Callable[[], Constraint]) -> Callable[[], Constraint]:
        """Constraint of a request: its rule, from the end of the reasoning on where there may be any."""
        reasoning, new_detokenizer = request.reasoning, self._new_detokenizer
        if reasoning is None or new_detokenizer is None:
            return rule
        vocab, visible = self._model.spec.vocab, request.visible_tokens
        return lambda: AfterReasoning(reasoning, rule, MarkedStream(new_detokenizer(), visible), vocab, self._ends)

    def _decode(self) -> None:
        """One decode step: a token for every sequence, and more for those whose draft tokens are accepted."""
        pairs = [(job, slot) for job in self._decoding for slot in job.sequences]
        can_roll_back = [self._runners.runner_of(job.adapter_key).can_roll_back for job, _ in pairs]
        count = self._draft([job.sequences[slot] for (job, slot), can in zip(pairs, can_roll_back) if can])
        inputs = [
            job.sequences[slot].next_input(slot, count if can else 0) for (job, slot), can in zip(pairs, can_roll_back)
        ]
        before = {slot: job.sequences[slot].position for job, slot in pairs}
        begun = time.perf_counter()
        logits, failed = self._runners.decode(
            [(job.adapter_key, step_input) for (job, _), step_input in zip(pairs, inputs)]
        )
        seconds = time.perf_counter() - begun
        found = {slot: self._choose_tokens(job, slot, failed.get(slot) or logits[slot]) for job, slot in pairs}
        begun = time.perf_counter()
        wrong = {}
        for (job, slot), step_input in zip(pairs, inputs):
            # A request that failed for one of its sequences has given all of its slots back.
            if slot in job.sequences and len(logits[slot]) == len(step_input.tokens):
                wrong[job.adapter_key, slot] = before[slot] + len(step_input.tokens) - job.sequences[slot].position
                self._draft_tokens += step_input.draft_count
                self._accepted_tokens += step_input.draft_count - wrong[job.adapter_key, slot]
        self._runners.rollback({place: count for place, count in wrong.items() if count})
        if not failed:
            self._speculation.record_pass(sum(map(len, logits.values())), seconds + time.perf_counter() - begun)
        for job, slot in pairs:
            if slot in job.sequences:
                self._commit(job, slot, found[slot])

    def _draft(self, sequences: Sequence[DecodingSequence]) -> int:
        """Fills the drafts of `sequences`; how many draft tokens of each are to be run."""
        most = self._speculation.most
        if not most:
            return 0
        for sequence in sequences:
            # None behind the next position of a snapshot.
            sequence.propose(min(most, -len(sequence.continuation.seen) % self.limits.snapshot_interval))
        return self._speculation.draft_length(
            [(sequence.source.acceptance_rate, len(sequence.draft)) for sequence in sequences]
        )

    def _choose_tokens(self, job: _RunningRequest, slot: int, logits: torch.Tensor | Exception) -> list[Token]:
        """The next tokens of the sequence in a slot; none if its prompt goes on, or its request fails and ends."""
        if slot not in job.sequences:
            return []
        try:
            if isinstance(logits, Exception):
                raise logits
            return job.sequences[slot].choose_tokens(logits)
        except BaseException as error:
            self._end_request(job, error)
            return []

    def _commit(self, job: _RunningRequest, slot: int, tokens: Sequence[Token]) -> None:
        try:
            self._take_snapshot(job, slot)
            if tokens:
                self._deliver(job, slot, tokens)
        except BaseException as error:
            self._end_request(job, error)

    def _take_snapshot(self, job: _RunningRequest, slot: int) -> None:
        """Takes a snapshot where one is wanted: at a position of the prompt, or inside a long answer."""
        sequence = job.sequences[slot]
        if sequence.position in job.snapshot_positions or self._snapshots.wants_snapshot(sequence.position):
            ids = sequence.continuation.seen[: sequence.position]
            state = self._runners.runner_of(job.adapter_key).slots.take(slot)
            self._snapshots.add_snapshot(ids, state, job.handle.request)

    def _deliver(self, job: _RunningRequest, slot: int, tokens: Sequence[Token]) -> None:
        """Hands on more tokens of the sequence in a slot; ends it if these were the last."""
        index = job.sequences[slot].index
        if tokens[-1].finish is not None:
            self._finish_sequence(job, slot)
        for token in tokens:
            job.handle.push_chunk(StreamChunk(index, token))
        if not job.sequences:
            self._end_request(job)

    def _finish_sequence(self, job: _RunningRequest, slot: int) -> None:
        """Frees a slot; a snapshot of its state stays, for a prompt that goes on from here."""
        sequence = job.sequences.pop(slot)
        wanted = sequence.index == 0 and job.handle.request.wants_snapshots
        if self._snapshots.enabled or wanted:
            ids = sequence.continuation.seen[: sequence.position]
            state = self._runners.runner_of(job.adapter_key).slots.take(slot)
            self._snapshots.add_snapshot(ids, state, job.handle.request)
            if wanted:
                job.handle.snapshots = self._snapshots.snapshots_along(ids, state, job.handle.request)
        job.slots.remove(slot)
        self._free_slot(slot, job.adapter_key)

    def _free_slot(self, slot: int, adapter_key: AdapterKey) -> None:
        """Makes a slot free for another sequence; its KV pages are not held until then."""
        self._runners.runner_of(adapter_key).slots.free(slot)
        self._free_slots.append(slot)

    def _cancel(self, job: _RunningRequest) -> None:
        """Ends a cancelled request; snapshots of what it has run stay."""
        try:
            if not job.sequences and job.state.length:
                self._snapshots.add_snapshot(job.ids[: job.state.length], job.state, job.handle.request)
            for slot in list(job.sequences):
                self._finish_sequence(job, slot)
        except BaseException as error:
            self._end_request(job, error)
        else:
            self._end_request(job)

    def _end_request(self, job: _RunningRequest, error: BaseException | None = None) -> None:
        for slot in job.slots:
            self._free_slot(slot, job.adapter_key)
        job.slots.clear()
        job.sequences.clear()
        for jobs in (self._prefilling, self._decoding):
            if job in jobs:
                jobs.remove(job)
        job.handle.finish(error)


def _run_task(task: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        task.set_result(work())
    except BaseException as error:
        task.set_exception(error)
