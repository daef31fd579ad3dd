"""The engine: many requests on one model, step by step: schedule, run, commit.

The ends of a prompt's chunks depend on that prompt and its snapshots, and a decode step gives each sequence what it
gives alone: so a request's tokens depend on the snapshots of its prompt, but not on what runs beside it.
"""

import contextlib
import time
from collections.abc import Callable, Collection
from collections.abc import Sequence as Items
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

import torch

from ..adapters import AdapterRegistry
from ..errors import InputError, LengthWarning, UnavailableError
from ..generation.continuation import Constraint, Continuation
from ..model.model import Model
from ..ops import dispatch
from ..state.batch import BatchState
from ..state.sequence import can_truncate
from ..state.state_file import Owner
from ..system.memory import give_back
from ..text.marked_stream import Detokenizer, MarkedStream
from .after_reasoning import AfterReasoning
from .commit import Committer
from .grammar import Compile
from .length_notice import LengthNotice
from .limits import Limits
from .model_runner import ForwardFunction
from .prefix_cache import PrefixCache
from .request import BASE, Request, RequestHandle
from .request_check import check_request
from .runner import Runner
from .scheduler import Scheduler
from .sequence import Sequence
from .snapshot_policy import SnapshotPolicy
from .snapshot_store import Scope, SnapshotStore
from .state_bytes import StateBytes
from .step import Task
from .worker import Work, Worker

Result = TypeVar("Result")


class EngineStats(NamedTuple):
    """Statistics of an engine: requests by where they are, bytes of states, tokens of speculative decoding so far."""

    waiting: int
    prefill: int
    decode: int
    state_bytes: int
    cache_bytes: int
    cache_snapshots: int
    draft_tokens: int
    accepted_tokens: int


class Engine:
    """Engine that runs requests on one model, in a thread of its own. Close it, or use it in a `with` statement.

    Weights may be changed while nothing runs: snapshots of the old ones are dropped before the next request begins.
    Small changes through `.data` may escape it (see `Weights.notice_edits`).
    """

    def __init__(
        self,
        model: Model,
        new_state: Callable[[], BatchState],
        *,
        run: ForwardFunction | None = None,
        ends: Collection[int] = (),
        new_detokenizer: Callable[[], Detokenizer] | None = None,
        compile_grammar: Compile | None = None,
        limits: Limits | None = None,
        ops: str = "auto",
        adapters: AdapterRegistry | None = None,
        own_thread: bool = True,
        prompts_per_pass: int = 1,
        length_notice: LengthNotice | None = None,
    ) -> None:
        """`new_state` makes an empty sequence's state at the precision to run at; `run` takes the model's place.

        `ends` are ids that end a sequence. `new_detokenizer` makes the detokenizer of one sequence; without it tokens
        have no text. `compile_grammar` compiles requests' grammars; without it they are refused. `adapters` has
        adapters and initial states by name. Without `own_thread` the caller calls `step`, and changes no weights while
        it has the engine. With `prompts_per_pass` above one, results depend, within rounding, on what runs beside.
        `length_notice` warns of sequences beyond the usable length.
        """
        self.limits = limits or Limits()
        self._model = model
        self._ends = ends
        self._new_detokenizer = new_detokenizer
        self._compile_grammar = compile_grammar
        self._ops = ops
        self._length_notice = length_notice or LengthNotice()
        with dispatch.using(ops), torch.no_grad():
            self._runner = Runner(
                model, run or model, new_state, self.limits.parallel, adapters, retry_alone=own_thread
            )
        self._state_bytes = StateBytes(model.spec, self._runner.base.precision)
        policy = SnapshotPolicy(
            self.limits.snapshot_interval,
            enabled=self.limits.cache_memory >= self._state_bytes.of_empty_sequence,
            truncatable=can_truncate(model.spec),
        )
        self._snapshots = SnapshotStore(policy, self.limits.cache_memory)
        self._scheduler = Scheduler(
            self.limits,
            policy,
            self._state_bytes.of_request,
            self._runner.base.capabilities,
            vocab=model.spec.vocab,
            prompts_per_pass=prompts_per_pass,
        )
        self._committer = Committer(self._scheduler, self._runner, policy, self._snapshots)
        self._worker = Worker()
        if own_thread:
            self._worker.start(Work(self.step, lambda: self._scheduler.has_work, self._abandon, self._release_memory))

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self) -> None:
        """One step: schedule, run, commit. Called by the engine's thread; by the caller where there is none.

        Prefill is committed before decode runs: nobody's first token waits for the next ones of others.
        """
        with dispatch.using(self._ops), torch.no_grad():
            self._cancel_and_admit()
            step = self._scheduler.schedule()
            begun = time.perf_counter()
            if step.task is not None:
                step.task.run()
            self._committer.commit_prefills(step, self._runner.run_prefills(step))
            prefilled = time.perf_counter()
            self._committer.commit_decodes(step, self._runner.run_decodes(step))
            self._scheduler.record_times(step, prefilled - begun, time.perf_counter() - prefilled)
            self._notice_length()

    def submit(self, request: Request) -> RequestHandle:
        """Puts a request into the queue; `QueueFullError` if too many wait, `InputError` if it can never run.

        `StateError` if it brings states of another model, adapter, initial state or precision.
        """
        check_request(request, self.limits, self._model.spec, self._state_bytes)
        self._length_notice.check(request.seen + len(request.ids))
        constraint = None
        if request.grammar is not None:
            if self._compile_grammar is None:
                raise InputError("the model has no tokenizer, so that no grammar can be followed")
            constraint = self._after_reasoning(request, self._compile_grammar(request.grammar))
        self._runner.require(request.adapter_key)
        if request.snapshots or (request.state is not None and self._worker.has_thread):
            request.require_identity(self._runner.identity_of(request.adapter_key))
        handle = RequestHandle(request, constraint)
        with self._worker.changed:
            self._worker.require_open()
            self._scheduler.waiting.add(handle, request.client, len(request.ids) + request.sampling.max_tokens)
            self._worker.changed.notify()
        return handle

    def run(self, work: Callable[[], Result]) -> Result:
        """Runs `work` in the engine's thread, between two steps; returns its result or raises its error."""
        if not self._worker.has_thread:
            return work()
        future: Future[Result] = Future()
        with self._worker.changed:
            self._worker.require_open()
            self._scheduler.tasks.append(Task(future, work))
            self._worker.changed.notify()
        return future.result()

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
    def failure(self) -> Exception | None:
        """Error that ended the engine's thread, if one did."""
        return self._worker.failure

    @property
    def cache(self) -> PrefixCache:
        """The prefix cache."""
        return self._snapshots.cache

    @property
    def owner(self) -> Owner:
        """Owner of the states of requests without an adapter or an initial state."""
        return self._runner.owner_of(BASE)

    def has_snapshot(self, ids: Items[int], cache_salt: str = "") -> bool:
        """Whether there is a snapshot after `ids` for requests of this salt, without adapter and initial state."""
        return self.run(lambda: self._snapshots.has_snapshot(ids, Scope(BASE, cache_salt)))

    @property
    def stats(self) -> EngineStats:
        """Current statistics."""
        scheduler = self._scheduler
        with self._worker.changed:
            waiting = len(scheduler.waiting)
        decode = len({sequence.handle for sequence in list(scheduler.decoding)})
        return EngineStats(
            waiting, len(scheduler.prefilling), decode, scheduler.nbytes,
            self.cache.nbytes, self.cache.snapshots, scheduler.draft_tokens, scheduler.accepted_tokens,
        )  # fmt: skip

    def close(self) -> None:
        """Ends all requests, each with an error, and the thread."""
        self._worker.close()
        if not self._worker.has_thread:
            self._abandon(InputError("the engine was closed"))

    def _cancel_and_admit(self) -> None:
        """Ends cancelled requests, and begins those that fit; where that fails, the request alone ends."""
        with self._worker.changed:
            gone = self._scheduler.waiting.remove_if(lambda handle: handle.cancelled)
            admitted = self._scheduler.admit()
        for handle in gone:
            handle.finish()
        for handle in admitted:
            try:
                self._begin(handle)
            except BaseException as error:
                handle.finish(error)
        for handle in self._scheduler.running:
            if handle.cancelled:
                self._committer.cancel(handle)

    def _notice_length(self) -> None:
        """Warns, once, when a sequence has grown beyond the usable length; never ends what runs."""
        if self._length_notice.is_due:
            longest = max((one.request.seen + len(one.ids) for one in self._scheduler.decoding), default=0)
            with contextlib.suppress(LengthWarning):  # where warnings are made errors
                self._length_notice.check(longest)

    def _begin(self, handle: RequestHandle) -> None:
        """Finds the longest known prefix of the prompt, and hands the request's sequences to scheduler and runner."""
        if self._worker.has_thread and self._scheduler.idle and self._runner.refresh():
            self.cache.clear()
        request = handle.request
        runner = self._runner.runner_of(request.adapter_key)
        found = self._snapshots.find_prefix(request, runner.owner.identity)
        handle.usage = found.usage
        limit = self._model.spec.max_positions and self._model.spec.max_positions - request.seen
        continuations = [self._continuation(handle, index) for index in range(request.n)]
        sequences = [
            Sequence(handle, index, continuation, self._ends, limit) for index, continuation in enumerate(continuations)
        ]
        self._scheduler.begin(sequences, found.usage.cached, runner.capabilities)
        self._runner.begin(sequences[0], request.state or found.state or runner.empty)

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

    def _abandon(self, failure: Exception) -> None:
        """Ends all that waits and runs, when there will be no more steps."""
        with self._worker.changed:
            tasks, handles = self._scheduler.clear()
        for task in tasks:
            task.future.set_exception(failure)
        for handle in handles:
            handle.finish(failure)

    def _release_memory(self) -> None:
        if self._model.device.type == "cpu":
            give_back()
