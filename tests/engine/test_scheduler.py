"""The scheduler without a model: who begins, which chunks run, who decodes, and what waits for what."""

from concurrent.futures import Future

import pytest

from braidlm.engine.limits import Limits
from braidlm.engine.sequence import Sequence
from braidlm.engine.snapshot_policy import SnapshotPolicy
from braidlm.engine.step import Step, Task
from braidlm.errors import InputError
from braidlm.generation.continuation import Continuation
from tests.engine.scheduling import DECODES_EIGHT, asked, begin, run, scheduler_of, wait

LIMITS = Limits(parallel=4, snapshot_interval=8, prefill_chunk=16)
NO_SNAPSHOTS = SnapshotPolicy(8, enabled=False)


def chunks(step: Step) -> list[tuple[int, int]]:
    return [(chunk.begin, chunk.end) for _, chunk in step.prefills]


def test_a_request_from_admission_to_its_last_token() -> None:
    """Oracle: by hand: chunks end at multiples of 16, the prompt's last token is decoded, then a token a step."""
    scheduler = scheduler_of(LIMITS)
    handle = wait(scheduler, asked(40, 3))
    assert begin(scheduler) == [handle] == scheduler.running
    steps = []
    while scheduler.has_work:
        steps.append(scheduler.schedule())
        run(scheduler, steps[-1])
    assert [chunks(step) for step in steps] == [[(0, 16)], [(16, 32)], [(32, 39)], [], []]
    assert [[tuple(item.tokens) for item in step.decodes] for step in steps] == [[], [], [(39,)], [(7,)], [(7,)]]
    assert [len(step.starts) for step in steps] == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("beside", [0, 1, 3])
@pytest.mark.parametrize("known", [0, 5, 16, 37])
def test_chunks_depend_on_the_prompt_alone(known: int, beside: int) -> None:
    """Oracle: the plan of the prompt, which knows of no other; whoever is there, the same chunks run, in order."""
    scheduler = scheduler_of(LIMITS)
    for length in (31, 77, 20)[:beside]:
        wait(scheduler, asked(length))
    begin(scheduler)
    handle = wait(scheduler, asked(61))
    plan = scheduler.plan_prompt(handle.request, known, 1)
    assert [chunk.end for chunk in plan.chunks] == [end for end in (16, 32, 48, 60) if end > known]
    begin(scheduler, known=known)
    found = []
    while scheduler.has_work:
        step = scheduler.schedule()
        found += [chunk for sequence, chunk in step.prefills if sequence.handle is handle]
        run(scheduler, step)
    assert tuple(found) == plan.chunks


def test_prompts_come_in_turn() -> None:
    """Oracle: by hand: a chunk of one prompt, then one of the next."""
    scheduler = scheduler_of(LIMITS)
    for _ in range(2):
        wait(scheduler, asked(49, 1))
    first, second = begin(scheduler)
    order = []
    while scheduler.has_work:
        step = scheduler.schedule()
        order += [sequence.handle for sequence, _ in step.prefills]
        run(scheduler, step)
    assert order == [first, second] * 3


def test_forks_begin_where_the_prompt_was_run() -> None:
    """Oracle: by hand: one sequence of three runs the prompt; all three decode from its last token on."""
    scheduler = scheduler_of(LIMITS)
    wait(scheduler, asked(17, 2, n=3))
    begin(scheduler)
    step = scheduler.schedule()
    assert chunks(step) == [(0, 16)]
    assert [item.sequence.index for item in step.decodes] == [0, 1, 2]
    assert len({item.slot for item in step.decodes}) == 3
    assert [len(forks.forks) for forks in step.starts] == [2]
    run(scheduler, step)
    run(scheduler, scheduler.schedule())
    assert scheduler.idle and not scheduler.has_work


def test_a_whole_prompt_gives_its_first_token_by_the_pass() -> None:
    """Oracle: by hand: without snapshots a pass runs all of the prompt; decode has its input from the next step on."""
    scheduler = scheduler_of(LIMITS, NO_SNAPSHOTS)
    wait(scheduler, asked(20, 2))
    begin(scheduler)
    run(scheduler, scheduler.schedule())
    step = scheduler.schedule()
    assert chunks(step) == [(16, 20)] and len(step.starts) == 1 and not step.decodes
    assert list(run(scheduler, step).values()) == [[7]]
    assert [tuple(item.tokens) for item in scheduler.schedule().decodes] == [(7,)]


def test_short_suffixes_of_several_prompts_share_a_step() -> None:
    """Oracle: by hand: eight tokens in all; what does not fit waits for the next step, and no pass is run."""
    scheduler = scheduler_of(LIMITS, NO_SNAPSHOTS, DECODES_EIGHT)
    for length in (3, 4, 2, 8):
        wait(scheduler, asked(length, 10))
    begin(scheduler, DECODES_EIGHT)
    found = []
    for _ in range(3):
        step = scheduler.schedule()
        assert not step.prefills
        found.append(step.suffix_tokens)
        run(scheduler, step)
    assert found == [7, 2, 8]


def test_several_prompts_in_a_pass() -> None:
    """Oracle: by hand: as many prompts as are allowed, a chunk of each."""
    scheduler = scheduler_of(LIMITS, NO_SNAPSHOTS, prompts_per_pass=3)
    for length in (40, 5, 16, 9):
        wait(scheduler, asked(length, 1))
    begin(scheduler)
    found = []
    while scheduler.has_work:
        step = scheduler.schedule()
        found.append(chunks(step))
        run(scheduler, step)
    assert found == [[(0, 16), (0, 5), (0, 16)], [(0, 9), (16, 32)], [(32, 40)]]


def test_prefill_waits_for_decode() -> None:
    """Oracle: by hand: after a second of prefill beside a sequence that waits, four thirds of a second of decode."""
    scheduler = scheduler_of(LIMITS)
    wait(scheduler, asked(2, 100))
    begin(scheduler)
    run(scheduler, scheduler.schedule())
    wait(scheduler, asked(49))
    begin(scheduler)
    prefilled = []
    for _ in range(7):
        step = scheduler.schedule()
        prefilled.append(bool(step.prefills))
        assert step.decodes
        run(scheduler, step)
        scheduler.record_times(step, 1.0 if step.prefills else 0.0, 0.5)
    assert prefilled == [True, False, False, True, False, False, True]


def test_admission_by_slots_and_bytes() -> None:
    """Oracle: by hand: what does not fit holds its place, and begins when enough has ended."""
    scheduler = scheduler_of(Limits(parallel=3, memory=10), state_bytes=lambda request: len(request.ids))
    small = wait(scheduler, asked(4, 1))
    sequences = wait(scheduler, asked(4, 1, n=3))
    behind = wait(scheduler, asked(1, 1))
    assert begin(scheduler) == [small]
    assert scheduler.nbytes == 4
    run(scheduler, scheduler.schedule())
    assert begin(scheduler) == [sequences]
    run(scheduler, scheduler.schedule())
    large = wait(scheduler, asked(10, 1))
    assert begin(scheduler) == [behind]
    run(scheduler, scheduler.schedule())
    assert begin(scheduler) == [large]
    assert scheduler.nbytes == 10


def test_tasks_and_prompts_in_turn() -> None:
    """Oracle: by hand: a chunk, a task, a chunk, and so on; with no prompt, a task each step."""
    scheduler = scheduler_of(LIMITS)
    wait(scheduler, asked(33, 1))
    begin(scheduler)
    ran: list[int] = []
    for number in range(4):
        scheduler.tasks.append(Task(Future(), lambda number=number: ran.append(number)))
    order = []
    while scheduler.has_work:
        step = scheduler.schedule()
        order.append("task" if step.task else "chunk" if step.prefills else "decode")
        if step.task is not None:
            step.task.run()
        run(scheduler, step)
    assert order == ["task", "chunk", "task", "chunk", "task", "task"]
    assert ran == [0, 1, 2, 3]


def test_draft_tokens_end_before_a_snapshot() -> None:
    """Oracle: by hand: a sequence that repeats itself has draft tokens, and none behind the next multiple of eight."""
    scheduler = scheduler_of(LIMITS, capabilities=DECODES_EIGHT)
    scheduler.speculation.draft_length = lambda sequences: 15  # type: ignore[method-assign]
    wait(scheduler, asked(4, 40))
    begin(scheduler, DECODES_EIGHT)
    drafted = []
    while scheduler.has_work:
        step = scheduler.schedule()
        (item,) = step.decodes
        assert item.draft_count <= -len(item.sequence.ids) % 8
        drafted.append((len(item.sequence.ids), item.draft_count))
        run(scheduler, step)
    assert (7, 1) in drafted  # one more would be behind position 8
    assert sum(count for _, count in drafted) > 10
    assert len(drafted) < 40


def test_nothing_is_left_when_all_is_cleared() -> None:
    """Oracle: by hand: requests that waited and ran, and tasks, are handed back."""
    scheduler = scheduler_of(Limits(parallel=1))
    handles = [wait(scheduler, asked(5)) for _ in range(3)]
    begin(scheduler)
    task = Task(Future(), lambda: None)
    scheduler.tasks.append(task)
    tasks, left = scheduler.clear()
    assert tasks == [task] and set(left) == set(handles)
    assert not scheduler.has_work and scheduler.nbytes == 0


def test_a_rule_that_fails_ends_no_other_request() -> None:
    """Oracle: by hand: what a rule forces is asked for draft tokens only; its error is met when a token is chosen."""

    class Failing:
        def forced(self) -> list[int]:
            raise InputError("no token may follow")

    scheduler, request = scheduler_of(LIMITS, capabilities=DECODES_EIGHT), asked(5)
    handle = wait(scheduler, request)
    assert scheduler.admit() == [handle]
    continuation = Continuation(request.ids, request.sampling, None, Failing())
    scheduler.begin([Sequence(handle, 0, continuation)], 4, DECODES_EIGHT)
    (item,) = scheduler.schedule().decodes
    assert (list(item.tokens), item.draft_count) == ([4], 0)
