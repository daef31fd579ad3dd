"""The engine: admits requests, reads their prompts in parts, and writes all texts together, in one thread of its own.

Prompts are cut at places that they alone decide, whoever else is there, and decoding gives each row what it gives
alone: so a request's tokens depend on what was kept of its text before, but not on what runs beside it.
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
from ..spec import is_whole
from ..state.batch import BatchState
from ..state.sequence import SequenceState
from ..state.state_file import Owner
from ..system.choices import MOST_SPECULATIVE_TOKENS
from ..system.memory import give_back
from ..text.marked_stream import Detokenizer, MarkedStream
from .adapter_runners import BASE, AdapterKey, AdapterRunners, adapter_key_of
from .after_reasoning import AfterReasoning
from .grammar import Compile
from .prefix_cache import PrefixCache
from .request import Piece, Request, RequestHandle, as_exception
from .scheduler import PrefillThrottle, RequestQueue
from .snapshot_policy import Scope, SnapshotPolicy
from .speculation import Speculation
from .writer import Writer

Result = TypeVar("Result")

# Freed memory goes back to the system once in so many seconds of work, and when there was none for as long.
_GIVE_BACK_S = 30.0

# Logits that are held at once where those of every token of a prompt are looked at: 64 MiB of them.
_LOGITS = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the engine may use.

    slots: texts written at once. waiting: requests in the queue. memory: bytes of the states of running requests.
    cache_memory: bytes of states kept for later. replay: tokens between two of them, at most, while that
    memory lasts. chunk: tokens of a prompt that are read at a time. prompt: tokens of a prompt, at most.
    guesses: tokens of a text that are guessed from what it repeats, at most; as many as pay are.
    """

    slots: int = 16
    waiting: int = 256
    memory: int = 4 << 30
    cache_memory: int = 1 << 30
    replay: int = 256
    chunk: int = 256
    prompt: int = 1 << 20
    guesses: int = MOST_SPECULATIVE_TOKENS

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("cache_memory", "guesses") else 1
            if not is_whole(value) or value < least:
                raise InputError(f"{name} is {value!r}, but must be a whole number from {least}")
        if self.guesses > MOST_SPECULATIVE_TOKENS:
            raise InputError(f"guesses is {self.guesses}, but may be {MOST_SPECULATIVE_TOKENS}")


class Load(NamedTuple):
    """What the engine has to do: requests by where they are, and bytes of states, of running requests and kept."""

    waiting: int
    reading: int
    writing: int
    state_bytes: int
    cache_bytes: int
    cache_states: int
    guessed: int  # tokens, so far
    guessed_right: int


@dataclass(eq=False)
class _Job:
    """A request between admission and its end: first a prompt to read, then texts to write."""

    handle: RequestHandle
    row: SequenceState
    bytes: int
    slots: list[int]  # of the texts that go on, one a copy
    writers: dict[int, Writer] = field(default_factory=dict)  # by slot, once passes have read enough of the prompt
    marks: Sequence[int] = ()  # where in the prompt the writers' states are to be kept

    @property
    def ids(self) -> tuple[int, ...]:
        return self.handle.request.ids

    @property
    def variant(self) -> AdapterKey:
        return adapter_key_of(self.handle.request)


class Engine:
    """Runs requests on one model. Close it, or use it in a `with` statement: it has a thread of its own.

    Weights may be changed while nothing runs: what was kept of the old ones is dropped before the next request begins.
    Small changes through `.data` may escape it (see `Model.notice_edits`).
    """

    def __init__(
        self,
        model: Model,
        new_state: Callable[[], BatchState],
        *,
        run: Run | None = None,
        ends: Collection[int] = (),
        texts: Callable[[], Detokenizer] | None = None,
        grammars: Compile | None = None,
        limits: Limits | None = None,
        ops: str = "auto",
        variants: Variants | None = None,
    ) -> None:
        """`new_state` gives one row of the precision to run at; `run`, `ends` and `texts` are those of `generate`.

        `grammars` compiles requests' grammars; without it they are refused. `variants` are what requests may name.
        """
        self.limits = limits or Limits()
        self._model = model
        self._ends = ends
        self._texts = texts
        self._grammars = grammars
        self._ops = ops
        with dispatch.using(ops), torch.no_grad():
            self._lanes = AdapterRunners(model, run or model, new_state, self.limits.slots, variants)
        spec, precision = model.spec, new_state().precision
        self._state_bytes = lambda length: spec.state_bytes(length, dtype=precision.name, kv_dtype=precision.kv)
        self._kept = SnapshotPolicy(spec, self.limits.cache_memory, self.limits.replay, self._state_bytes(0))
        self._waiting: RequestQueue[RequestHandle] = RequestQueue(self.limits.waiting)
        self._reading: deque[_Job] = deque()
        self._writing: list[_Job] = []
        self._free = list(range(self.limits.slots))
        self._pace = PrefillThrottle()
        self._speculation = Speculation(self.limits.guesses if self._lanes.base.rewinding else 0)
        self._guessed = self._guessed_right = 0
        self._errands: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._errand_is_next = False
        self._changed = threading.Condition()
        self._closing = False
        self.failure: Exception | None = None  # what ended the thread against its will
        self._thread = threading.Thread(target=self._serve, name="braidlm-engine", daemon=True)
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
        if len(request.ids) > self.limits.prompt:
            raise ContextLengthError(f"the prompt has {len(request.ids)} tokens, but may have {self.limits.prompt}")
        check_ids(request.ids, self._model.spec.vocab)
        check_sampling(request.sampling, self._model.spec.vocab)
        if request.copies > self.limits.slots:
            raise InputError(f"copies is {request.copies}, but only {self.limits.slots} texts are written at once")
        if self._bytes_of(request) > self.limits.memory:
            raise InputError(
                f"the request needs {self._bytes_of(request)} bytes of state, but there are {self.limits.memory}"
            )
        constraint = None
        if request.grammar is not None:
            if self._grammars is None:
                raise InputError("the model has no tokenizer, so that no grammar can be followed")
            constraint = self._after_reasoning(request, self._grammars(request.grammar))
        self._lanes.require(adapter_key_of(request))
        if request.states:
            request.require_states_of(self._lanes.identity(adapter_key_of(request)))
        handle = RequestHandle(request, constraint)
        with self._changed:
            if self._closing:
                raise InputError("the engine is closed")
            self._waiting.add(handle, request.client, len(request.ids) + request.sampling.max_tokens)
            self._changed.notify()
        return handle

    def run(self, work: Callable[[], Result]) -> Result:
        """Does `work` in the engine's thread, between two steps; gives its result or raises its error."""
        errand: Future[Result] = Future()
        with self._changed:
            if self._closing:
                raise InputError("the engine is closed")
            self._errands.append((errand, work))
            self._changed.notify()
        return errand.result()

    def prepare_rules(self) -> None:
        """Does what the first request with a grammar would wait for; nothing where no grammar can be followed."""
        if self._grammars is not None:
            with contextlib.suppress(UnavailableError):  # which that request is told
                self._grammars.prepare()

    @property
    def most_prompt_tokens(self) -> int:
        """Number of tokens that a prompt may have: the model's context, or less where the limits say so."""
        return min(self.limits.prompt, self._model.spec.max_positions or self.limits.prompt)

    @property
    def cache(self) -> PrefixCache:
        """The states that are kept."""
        return self._kept.cache

    @property
    def owner(self) -> Owner:
        """Whose states the engine takes and gives for requests without an adapter or an initial state."""
        return self._lanes.owner(BASE)

    def knows(self, ids: Sequence[int], cache_salt: str = "") -> bool:
        """Whether the state after `ids` is kept for requests of this salt, without adapter and initial state."""
        return self.run(lambda: self._kept.knows(ids, Scope(BASE, cache_salt)))

    @property
    def load(self) -> Load:
        """How much there is to do."""
        with self._changed:
            waiting = len(self._waiting)
        running = [*self._reading, *self._writing]
        return Load(
            waiting, len(self._reading), len(self._writing), sum(job.bytes for job in running),
            self.cache.nbytes, self.cache.states, self._guessed, self._guessed_right,
        )  # fmt: skip

    def close(self) -> None:
        """Ends what runs and waits, each with an error, and the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _bytes_of(self, request: Request) -> int:
        longest = len(request.ids) + request.sampling.max_tokens
        return request.copies * self._state_bytes(min(longest, self._model.spec.max_positions or longest))

    def _serve(self) -> None:
        failure: Exception = InputError("the engine was closed")
        try:
            with dispatch.using(self._ops), torch.no_grad():
                given_back = time.monotonic()
                while self._wait():
                    for handle in self._admitted():
                        self._attempt(handle)
                    self._step()
                    if time.monotonic() - given_back > _GIVE_BACK_S:
                        self._give_back()
                        given_back = time.monotonic()
        except BaseException as error:  # nobody may wait for ever, whatever has happened
            failure = self.failure = as_exception(error)
        with self._changed:
            self._closing = True
            left = self._waiting.remove(lambda _: True)
        errands, running = list(self._errands), [*self._reading, *self._writing]
        for gone in (self._errands, self._reading, self._writing):
            gone.clear()
        for errand, _ in errands:
            errand.set_exception(failure)
        for handle in (*left, *(job.handle for job in running)):
            handle.end(failure)

    def _wait(self) -> bool:
        """Until there is something to do; False when the engine closes."""
        rested = False
        with self._changed:
            while not (self._closing or self._errands or self._reading or self._writing or len(self._waiting)):
                if not self._changed.wait(None if rested else _GIVE_BACK_S):
                    rested = True
                    self._give_back()
            return not self._closing

    def _give_back(self) -> None:
        if self._model.device.type == "cpu":
            give_back()

    def _admitted(self) -> list[RequestHandle]:
        """The requests that begin now; those that were cancelled in the queue end."""
        with self._changed:
            gone = self._waiting.remove(lambda handle: handle.cancelled)
        for handle in gone:
            handle.end()
        used = sum(job.bytes for job in (*self._reading, *self._writing))
        slots, found = len(self._free), []

        def fits(handle: RequestHandle) -> bool:
            return handle.request.copies <= slots and used + self._bytes_of(handle.request) <= self.limits.memory

        with self._changed:
            while (taken := self._waiting.take(fits)) is not None:
                found.append(taken)
                used += self._bytes_of(taken.request)
                slots -= taken.request.copies
        return found

    def _attempt(self, handle: RequestHandle) -> None:
        """Begins a request; if that fails, it alone ends."""
        try:
            self._begin(handle)
        except BaseException as error:
            handle.end(error)

    def _begin(self, handle: RequestHandle) -> None:
        """Finds what is known of the prompt, and gives the request its slots."""
        if not (self._reading or self._writing) and self._lanes.refresh():
            self.cache.clear()
        request = handle.request
        runner = self._lanes.of(adapter_key_of(request))
        found = self._kept.find(request, runner.owner.identity)
        handle.usage = found.usage
        slots = [self._free.pop() for _ in range(request.copies)]
        self._reading.append(_Job(handle, found.row or runner.empty, self._bytes_of(request), slots))

    def _step(self) -> None:
        for job in [job for job in (*self._reading, *self._writing) if job.handle.cancelled]:
            self._drop(job)
        busy, rests = bool(self._writing), 0
        if (self._reading or self._errands) and self._pace.may_read(busy):
            begun = time.perf_counter()
            # Prompts and errands in turn, so that neither waits for all of the other.
            self._errand_is_next = not self._reading or (bool(self._errands) and not self._errand_is_next)
            if self._errand_is_next:
                _do(*self._errands.popleft())
            else:
                rests = self._read_some()
            self._pace.read(time.perf_counter() - begun, busy)
        if self._writing:
            begun = time.perf_counter()
            self._write()
            seconds = time.perf_counter() - begun
            if rests:
                self._pace.did_both(seconds, busy)
            else:
                self._pace.wrote(seconds)

    def _read_some(self) -> int:
        """A part of the next prompt; or short rests of several, whose tokens, so many, the next step runs."""
        tokens = 0
        while self._reading:
            rest = self._rest(job := self._reading[0])
            if tokens and not 0 < rest <= self._lanes.base.short - tokens:
                break
            self._reading.popleft()
            try:
                self._read(job)
            except BaseException as error:
                self._end(job, error)
            tokens += rest
            if not rest:
                break
        return tokens

    def _rest(self, job: _Job) -> int:
        """The tokens of a prompt that need no pass; 0 if there are others before them."""
        begin, short = job.row.length, self._lanes.of(job.variant).short
        return len(job.ids) - begin if self._kept.stop(job.handle.request, begin, short) == begin else 0

    def _read(self, job: _Job) -> None:
        """The prompt's next part; after the last one the texts begin."""
        request, begin = job.handle.request, job.row.length
        runner, logits = self._lanes.of(job.variant), None
        last, chunk = self._kept.stop(request, begin, runner.short), self._chunk(request)
        end = last if last - begin <= chunk else (begin // chunk + 1) * chunk
        if begin < end:
            logits = self._pass(job, end)
        if end < last:
            self._reading.append(job)
            return
        if not request.generates:
            self._end(job)
            return
        self._writing.append(job)
        job.marks = self._kept.marks(request, end, len(job.ids))
        rest = [job.ids[start:stop] for start, stop in pairwise((end, *job.marks, len(job.ids))) if start < stop]
        for copy, slot in enumerate(job.slots):
            text = self._continuation(job.handle, copy)
            job.writers[slot] = Writer(copy, text, self._ends, self._model.spec.max_positions, rest)
            runner.slots.put(slot, job.row)
        if logits is not None:
            for slot in list(job.writers):
                self._give(job, slot, job.writers[slot].follow(logits[-1:]))

    def _chunk(self, request: Request) -> int:
        """How many tokens of a prompt are read at a time; fewer where the logits of all of them are looked at."""
        chunk, most = self.limits.chunk, max(1, _LOGITS // self._model.spec.vocab)
        return chunk if request.prompt_logprobs is None else min(chunk, most)

    def _pass(self, job: _Job, end: int) -> torch.Tensor | None:
        """Runs the prompt up to `end` and keeps the states inside; the last logits if they are needed, [n, V]."""
        request, begin = job.handle.request, job.row.length
        marks = self._kept.marks(request, begin, end)
        wanted: Logits = "last" if end == len(job.ids) else None
        if request.prompt_logprobs is not None:
            wanted = "all"
        job.row, marked, logits = self._lanes.of(job.variant).read(
            job.row, job.ids[begin:end], [mark - begin for mark in marks], logits=wanted
        )
        for mark, row in zip(marks, marked, strict=True):
            self._kept.add(job.ids[:mark], row, job.handle.request)
        if request.prompt_logprobs is not None and logits is not None:
            after = job.ids[begin + 1 : end + 1]
            job.handle.prompt_logprobs += scores(logits[: len(after)], after, request.prompt_logprobs)
        return logits

    def _continuation(self, handle: RequestHandle, copy: int) -> Continuation:
        constraint = handle.constraint() if handle.constraint else None
        text = self._text_of(handle.request)
        return Continuation(handle.request.ids, handle.request.sampling_of(copy), text, constraint)

    def _text_of(self, request: Request) -> Detokenizer | None:
        """What decodes an answer to a request, with the marks that it asks for."""
        if self._texts is None or not request.marks:
            return self._texts and self._texts()
        return MarkedStream(self._texts(), request.marks)

    def _after_reasoning(self, request: Request, rule: Callable[[], Constraint]) -> Callable[[], Constraint]:
        """A request's rule, from the end of the reasoning on where there may be any."""
        reasoning, texts = request.reasoning, self._texts
        if reasoning is None or texts is None:
            return rule
        vocab, marks = self._model.spec.vocab, request.marks
        return lambda: AfterReasoning(reasoning, rule, MarkedStream(texts(), marks), vocab, self._ends)

    def _write(self) -> None:
        """One token for every text, and more of those whose next ones were guessed."""
        pairs = [(job, slot) for job in self._writing for slot in job.writers]
        rewinding = [self._lanes.of(job.variant).rewinding for job, _ in pairs]
        guesses = self._guesses([job.writers[slot] for (job, slot), can in zip(pairs, rewinding) if can])
        moves = [job.writers[slot].next(slot, guesses if can else 0) for (job, slot), can in zip(pairs, rewinding)]
        before = {slot: job.writers[slot].position for job, slot in pairs}
        begun = time.perf_counter()
        logits, failed = self._lanes.write([(job.variant, move) for (job, _), move in zip(pairs, moves)])
        seconds = time.perf_counter() - begun
        found = {slot: self._follow(job, slot, failed.get(slot) or logits[slot]) for job, slot in pairs}
        begun = time.perf_counter()
        wrong = {}
        for (job, slot), move in zip(pairs, moves):
            # A request that failed for one of its texts has given all of its slots back.
            if slot in job.writers and len(logits[slot]) == len(move.tokens):
                wrong[job.variant, slot] = before[slot] + len(move.tokens) - job.writers[slot].position
                self._guessed += move.guesses
                self._guessed_right += move.guesses - wrong[job.variant, slot]
        self._lanes.rollback({place: count for place, count in wrong.items() if count})
        if not failed:
            self._speculation.measured(sum(map(len, logits.values())), seconds + time.perf_counter() - begun)
        for job, slot in pairs:
            if slot in job.writers:
                self._give_some(job, slot, found[slot])

    def _guesses(self, writers: Sequence[Writer]) -> int:
        """Has the texts guess how they go on, and says how many guesses of each are to be tried."""
        most = self._speculation.most
        if not most:
            return 0
        for writer in writers:
            # None behind the next place where a state is kept.
            writer.guess(min(most, -len(writer.text.seen) % self.limits.replay))
        return self._speculation.length([(writer.source.hits, len(writer.guessed)) for writer in writers])

    def _follow(self, job: _Job, slot: int, logits: torch.Tensor | Exception) -> list[Token]:
        """The tokens that the text in a slot goes on with; none if its prompt does, or its request fails and ends."""
        if slot not in job.writers:
            return []
        try:
            if isinstance(logits, Exception):
                raise logits
            return job.writers[slot].follow(logits)
        except BaseException as error:
            self._end(job, error)
            return []

    def _give_some(self, job: _Job, slot: int, tokens: Sequence[Token]) -> None:
        try:
            self._remember(job, slot)
            if tokens:
                self._give(job, slot, tokens)
        except BaseException as error:
            self._end(job, error)

    def _remember(self, job: _Job, slot: int) -> None:
        """Keeps the state at a mark of the prompt, or inside a long answer."""
        writer = job.writers[slot]
        if writer.position in job.marks or self._kept.wanted_inside(writer.position):
            ids = writer.text.seen[: writer.position]
            self._kept.add(ids, self._lanes.of(job.variant).slots.take(slot), job.handle.request)

    def _give(self, job: _Job, slot: int, tokens: Sequence[Token]) -> None:
        """More tokens of the text in a slot, and its end if these were the last."""
        copy = job.writers[slot].copy
        if tokens[-1].finish is not None:
            self._keep(job, slot)
        for token in tokens:
            job.handle.give(Piece(copy, token))
        if not job.writers:
            self._end(job)

    def _keep(self, job: _Job, slot: int) -> None:
        """Frees a slot; its state stays known, for a text that goes on from here."""
        writer = job.writers.pop(slot)
        wanted = writer.copy == 0 and job.handle.request.wants_states
        if self._kept.keeps or wanted:
            row, ids = self._lanes.of(job.variant).slots.take(slot), writer.text.seen[: writer.position]
            self._kept.add(ids, row, job.handle.request)
            if wanted:
                job.handle.states = self._kept.along(ids, row, job.handle.request)
        job.slots.remove(slot)
        self._release(slot, job.variant)

    def _release(self, slot: int, variant: AdapterKey) -> None:
        """Makes a slot free for another text; its pages are not held until then."""
        self._lanes.of(variant).slots.free(slot)
        self._free.append(slot)

    def _drop(self, job: _Job) -> None:
        """Ends a cancelled request; what it has read and written stays known."""
        try:
            if not job.writers and job.row.length:
                self._kept.add(job.ids[: job.row.length], job.row, job.handle.request)
            for slot in list(job.writers):
                self._keep(job, slot)
        except BaseException as error:
            self._end(job, error)
        else:
            self._end(job)

    def _end(self, job: _Job, error: BaseException | None = None) -> None:
        for slot in job.slots:
            self._release(slot, job.variant)
        job.slots.clear()
        job.writers.clear()
        for jobs in (self._reading, self._writing):
            if job in jobs:
                jobs.remove(job)
        job.handle.end(error)


def _do(errand: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        errand.set_result(work())
    except BaseException as error:
        errand.set_exception(error)
