"""Scheduler: which requests begin, which parts of prompts run, which sequences decode, with how many draft tokens.

All policy of the engine is here. It knows tokens, positions, bytes and measured seconds; no tensors, and no model.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from .limits import Limits
from .prefill_throttle import PrefillThrottle
from .request import Request, RequestHandle
from .request_queue import RequestQueue
from .sequence import Chunk, DecodeInput, PromptPlan, Sequence
from .snapshot_policy import SnapshotPolicy
from .speculation import Speculation
from .step import DecodeCapabilities, Prefill, Step, Task

# Logits that are held at once where those of every token of a prompt are needed: 64 MiB of them.
LOGITS = 1 << 24


@dataclass
class _Running:
    """A request that was admitted: the bytes promised to its states, and its sequences that have not ended."""

    nbytes: int
    sequences: list[Sequence]


class Scheduler:
    """Scheduler of one engine. `waiting` may be used by several threads under a lock; the rest belongs to one."""

    def __init__(
        self,
        limits: Limits,
        policy: SnapshotPolicy,
        state_bytes: Callable[[Request], int],
        capabilities: DecodeCapabilities,
        *,
        vocab: int,
        prompts_per_pass: int = 1,
    ) -> None:
        """`state_bytes` of a request are needed for its states; `capabilities` are those of requests without adapters.

        With `prompts_per_pass` above one, what a prompt's tokens are run with depends on which prompts come together.
        """
        self.waiting: RequestQueue[RequestHandle] = RequestQueue(limits.max_queue)
        self.tasks: deque[Task] = deque()
        self.prefilling: deque[Sequence] = deque()  # the first sequence of each request
        self.decoding: list[Sequence] = []
        self.draft_tokens = self.accepted_tokens = 0
        self.speculation = Speculation(limits.speculative_tokens if capabilities.can_roll_back else 0)
        self._limits = limits
        self._policy = policy
        self._state_bytes = state_bytes
        self._max_suffix_tokens = max(capabilities.max_decode_tokens, prompts_per_pass)
        self._vocab = vocab
        self._prompts_per_pass = prompts_per_pass
        self._running: dict[RequestHandle, _Running] = {}
        self._free_slots = list(range(limits.parallel))
        self._throttle = PrefillThrottle()
        self._task_is_next = False

    @property
    def idle(self) -> bool:
        """Whether no request runs; some may wait."""
        return not self._running

    @property
    def has_work(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._running or self.tasks or len(self.waiting))

    @property
    def running(self) -> list[RequestHandle]:
        """Requests that were admitted and have not ended."""
        return list(self._running)

    @property
    def nbytes(self) -> int:
        """Bytes that are promised to the states of running requests."""
        return sum(running.nbytes for running in list(self._running.values()))

    def sequences_of(self, handle: RequestHandle) -> list[Sequence]:
        """Sequences of a request that have not ended."""
        return list(self._running[handle].sequences)

    def admit(self) -> list[RequestHandle]:
        """Takes the requests that fit beside those that run from the queue, in turn; `begin` comes next for each."""
        used, slots, found = self.nbytes, len(self._free_slots), []

        def fits(handle: RequestHandle) -> bool:
            return handle.request.n <= slots and used + self._state_bytes(handle.request) <= self._limits.memory

        while (taken := self.waiting.pop_if(fits)) is not None:
            found.append(taken)
            used += self._state_bytes(taken.request)
            slots -= taken.request.n
        return found

    def begin(self, sequences: list[Sequence], position: int, capabilities: DecodeCapabilities) -> None:
        """Begins a request, whose prompt is known up to `position`: gives its sequences slots, and plans its prompt."""
        first, *first.forks = sequences
        plan = self.plan_prompt(first.request, position, capabilities.max_decode_tokens)
        for sequence in sequences:
            sequence.slot = self._free_slots.pop()
            sequence.can_roll_back = capabilities.can_roll_back
            sequence.follow_plan(plan, position)
        self._running[first.handle] = _Running(self._state_bytes(first.request), sequences)
        self.prefilling.append(first)

    def plan_prompt(self, request: Request, position: int, max_decode_tokens: int) -> PromptPlan:
        """Plan of a prompt that is known up to `position`: other sequences do not move the ends of its chunks.

        They are multiples of `prefill_chunk`; the last chunk begins where at most that many tokens are left.
        """
        most, chunks, begin = max_decode_tokens if self._prompts_per_pass == 1 else 1, [], position
        size = self._limits.prefill_chunk
        if request.prompt_logprobs is not None:
            size = min(size, max(1, LOGITS // self._vocab))
        while begin < (last := self._policy.prefill_end(request, begin, most)):
            end = last if last - begin <= size else (begin // size + 1) * size
            chunks.append(Chunk(begin, end, self._policy.snapshot_positions(request, begin, end)))
            begin = end
        positions = self._policy.snapshot_positions(request, begin, len(request.ids))
        cuts = pairwise((begin, *positions, len(request.ids)))
        suffix = tuple(request.ids[start:stop] for start, stop in cuts if start < stop)
        return PromptPlan(tuple(chunks), suffix, positions)

    def schedule(self) -> Step:
        """The next step. Prompts and tasks come in turn, so that neither waits for all of the other."""
        step, begins_task = Step(busy=bool(self.decoding)), False
        if (self.prefilling or self.tasks) and self._throttle.may_prefill(step.busy):
            self._task_is_next = not self.prefilling or (bool(self.tasks) and not self._task_is_next)
            if not self._task_is_next:
                self._schedule_prompts(step)
            begins_task = self._task_is_next
        step.decodes = self._decode_inputs()
        if begins_task:
            step.task = self.tasks.popleft()
        return step

    def _schedule_prompts(self, step: Step) -> None:
        """Adds the next chunk, one prompt's or several ones', or short suffixes of several prompts to a step."""
        again: list[Sequence] = []
        while self.prefilling:
            sequence = self.prefilling[0]
            suffix = sequence.suffix_length
            if step.prefills and (suffix or len(step.prefills) == self._prompts_per_pass):
                break
            if step.suffix_tokens and not 0 < suffix <= self._max_suffix_tokens - step.suffix_tokens:
                break
            self.prefilling.popleft()
            step.suffix_tokens += suffix
            if sequence.chunks:
                step.prefills.append(Prefill(sequence, sequence.chunks.popleft()))
            if sequence.chunks:
                again.append(sequence)
            elif sequence.request.generates:
                step.starts.append(sequence)
                self.decoding += [sequence, *sequence.forks]
        self.prefilling.extend(again)

    def _decode_inputs(self) -> list[DecodeInput]:
        sequences = [sequence for sequence in self.decoding if sequence.has_input]
        count = self._draft([sequence for sequence in sequences if sequence.can_roll_back])
        return [sequence.next_input(count if sequence.can_roll_back else 0) for sequence in sequences]

    def _draft(self, sequences: list[Sequence]) -> int:
        """Fills the drafts of `sequences`; how many draft tokens of each are to be run."""
        if not self.speculation.most:
            return 0
        for sequence in sequences:
            # None behind the next position of a snapshot.
            sequence.propose(min(self.speculation.most, -len(sequence.ids) % self._limits.snapshot_interval))
        return self.speculation.draft_length(
            [(sequence.source.acceptance_rate, len(sequence.draft)) for sequence in sequences]
        )

    def record_times(self, step: Step, prefill_s: float, decode_s: float) -> None:
        """Records how many seconds a step's prefill, or its task, and its decode took."""
        if step.task is not None or step.prefills or step.starts:
            self._throttle.prefilled(prefill_s, step.busy)
        if step.decodes and step.suffix_tokens:
            self._throttle.did_both(decode_s, step.busy)
        elif step.decodes:
            self._throttle.decoded(decode_s)

    def record_drafts(self, draft_tokens: int, accepted_tokens: int) -> None:
        """Counts draft tokens that were run, and those of them that were accepted."""
        self.draft_tokens += draft_tokens
        self.accepted_tokens += accepted_tokens

    def remove(self, sequence: Sequence) -> None:
        """Takes out a sequence that has ended; its slot is free."""
        sequence.ended = True
        self._running[sequence.handle].sequences.remove(sequence)
        self._free_slots.append(sequence.slot)
        if sequence in self.decoding:
            self.decoding.remove(sequence)
        if sequence in self.prefilling:
            self.prefilling.remove(sequence)

    def end(self, handle: RequestHandle) -> None:
        """Takes out a request, all of whose sequences were removed."""
        self._running.pop(handle, None)

    def clear(self) -> tuple[list[Task], list[RequestHandle]]:
        """Takes out all tasks and requests, those that wait and those that run, and returns them."""
        tasks, handles = list(self.tasks), [*self.waiting.remove_if(lambda _: True), *self._running]
        for gone in (self.tasks, self.prefilling, self.decoding, self._running):
            gone.clear()
        return tasks, handles
