"""Commit of a step: what its passes gave becomes snapshots, tokens and ends of sequences."""

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import ParamSpec, TypeVar

from ..generation.choice import scores
from ..generation.continuation import Token
from .model_runner import Prefilled
from .request import RequestHandle, StreamChunk
from .runner import Outcome, Runner
from .scheduler import Scheduler
from .sequence import Chunk, Sequence
from .snapshot_policy import SnapshotPolicy
from .snapshot_store import SnapshotStore
from .step import Step

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Committer:
    """Committer of one engine's steps; an error ends its own request alone."""

    def __init__(self, scheduler: Scheduler, runner: Runner, policy: SnapshotPolicy, snapshots: SnapshotStore) -> None:
        """`scheduler`, `runner` and `snapshots`, all of one engine, are told what has become of sequences."""
        self._scheduler = scheduler
        self._runner = runner
        self._policy = policy
        self._snapshots = snapshots

    def commit_prefills(self, step: Step, outcome: Outcome) -> None:
        """Takes snapshots of prompts, and hands on the first tokens of those that a pass ran to their end."""
        self._end_failed(outcome)
        for sequence, chunk in step.prefills:
            if not sequence.ended:
                self._attempt(sequence.handle, self._commit_prefill, sequence, chunk, outcome.prefilled[sequence])
        for sequence in step.starts:
            if not sequence.ended:
                self._attempt(sequence.handle, self._commit_start, sequence, outcome.prefilled.get(sequence))

    def end(self, handle: RequestHandle, error: BaseException | None = None) -> None:
        """Ends a request, with an error or without, unless it has ended."""
        if handle not in self._scheduler.running:
            return
        for sequence in self._scheduler.sequences_of(handle):
            self._free(sequence)
        self._scheduler.end(handle)
        handle.finish(error)

    def cancel(self, handle: RequestHandle) -> None:
        """Ends a cancelled request; snapshots of what it has run stay."""
        self._attempt(handle, self._finish_early, handle)
        self.end(handle)

    def _end_failed(self, outcome: Outcome) -> None:
        for sequence, error in outcome.failed.items():
            self.end(sequence.handle, error)

    def _attempt(
        self,
        handle: RequestHandle,
        act: Callable[Arguments, Result],
        *args: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Result | None:
        """Result of `act`; None if it raises, which ends the request."""
        try:
            return act(*args, **options)
        except BaseException as error:
            self.end(handle, error)
            return None

    def _commit_prefill(self, sequence: Sequence, chunk: Chunk, made: Prefilled) -> None:
        request, ids = sequence.request, sequence.request.ids
        sequence.position = chunk.end
        for position, state in zip(chunk.snapshot_positions, made.snapshots, strict=True):
            self._snapshots.add_snapshot(ids[:position], state, request)
        if request.prompt_logprobs is not None and made.logits is not None:
            after = ids[chunk.begin + 1 : chunk.end + 1]
            sequence.handle.prompt_logprobs += scores(made.logits[: len(after)], after, request.prompt_logprobs)
        if not request.generates and chunk.end == len(ids):
            self.end(sequence.handle)

    def _commit_start(self, sequence: Sequence, made: Prefilled | None) -> None:
        """Begins decode of a sequence and its forks; where passes ran the whole prompt, with their first tokens."""
        for fork in sequence.forks:
            fork.position = sequence.position
        if sequence.has_input or made is None or made.logits is None:
            return
        for each in (sequence, *sequence.forks):
            self._deliver(each, each.choose_tokens(made.logits[-1:]))

    def commit_decodes(self, step: Step, outcome: Outcome) -> None:
        """Chooses tokens, rolls back draft tokens that were wrong, and then hands the tokens on."""
        self._end_failed(outcome)
        chosen: dict[Sequence, Items[Token]] = {}
        wrong: dict[Sequence, int] = {}
        for sequence, tokens, draft_count in step.decodes:
            if sequence.ended:
                continue
            logits = outcome.logits[sequence]
            made = self._attempt(sequence.handle, sequence.choose_tokens, logits)
            if made is None:
                continue
            chosen[sequence] = made
            if draft_count and len(logits) == len(tokens):  # it did not run without them, since others failed
                accepted = len(made) - 1
                self._scheduler.record_drafts(draft_count, accepted)
                wrong[sequence] = draft_count - accepted
        begun = time.perf_counter()
        if any(wrong.values()):
            self._runner.rollback({sequence: n for sequence, n in wrong.items() if n and not sequence.ended})
        if outcome.logits and not outcome.failed and self._scheduler.speculation.most:
            size = sum(map(len, outcome.logits.values()))
            self._scheduler.speculation.record_pass(size, outcome.decode_s + time.perf_counter() - begun)
        for sequence, new in chosen.items():
            if not sequence.ended:
                self._attempt(sequence.handle, self._commit_decode, sequence, new)

    def _commit_decode(self, sequence: Sequence, tokens: Items[Token]) -> None:
        """Takes a snapshot where one is wanted, of the prompt or inside a long answer; then hands on the tokens."""
        position, request = sequence.position, sequence.request
        if position in sequence.snapshot_positions or self._policy.wants_snapshot(request, position):
            self._snapshots.add_snapshot(sequence.ids[:position], self._runner.state_of(sequence), request)
        if tokens:
            self._deliver(sequence, tokens)

    def _deliver(self, sequence: Sequence, tokens: Items[Token]) -> None:
        """Hands on more tokens of a sequence; ends it if these were the last."""
        handle, ends = sequence.handle, tokens[-1].finish is not None
        if ends:
            self._finish(sequence)
        for token in tokens:
            handle.push_chunk(StreamChunk(sequence.index, token))
        if ends and not self._scheduler.sequences_of(handle):
            self.end(handle)

    def _finish_early(self, handle: RequestHandle) -> None:
        """Takes snapshots of what a request has run that will not go on."""
        first, *_ = sequences = self._scheduler.sequences_of(handle)
        if first not in self._scheduler.prefilling:
            for sequence in sequences:
                self._finish(sequence)
        elif first.position:
            state = self._runner.state_of(first)
            self._snapshots.add_snapshot(first.ids[: first.position], state, first.request)

    def _finish(self, sequence: Sequence) -> None:
        """Ends a sequence; a snapshot of its state stays, for a prompt that goes on from here."""
        request = sequence.request
        wanted = sequence.index == 0 and request.wants_snapshots
        if self._policy.serves(request) or wanted:
            ids, state = sequence.ids[: sequence.position], self._runner.state_of(sequence)
            self._snapshots.add_snapshot(ids, state, request)
            if wanted:
                sequence.handle.snapshots = self._snapshots.snapshots_along(ids, state, request)
        self._free(sequence)

    def _free(self, sequence: Sequence) -> None:
        self._runner.free(sequence)
        self._scheduler.remove(sequence)
