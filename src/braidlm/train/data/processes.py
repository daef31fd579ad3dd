"""Execution of tasks in this process or in several; results come in the order of the tasks either way."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from ...errors import UnavailableError
from . import worker
from .worker import Job, ShardInfo, Task

Done = Callable[[Task], ShardInfo | None]


def run(tasks: Iterable[Task], job: Job, processes: int, done: Done) -> Iterator[tuple[Task, ShardInfo]]:
    """Makes the shards of all tasks, but of those whose result `done` knows.

    Of several tasks that fail, the first one's error is raised, as it would be with one process.
    """
    if processes == 1:
        alone = worker.Worker(job)
        for task in tasks:
            yield task, done(task) or alone.make(task)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), worker.start, (job,)) as pool:
        try:
            yield from _run(tasks, pool, 2 * processes, done)
        except BrokenProcessPool:
            raise UnavailableError(
                "a process that tokenized was killed, most likely for want of memory; fewer processes need less of it"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _run(tasks: Iterable[Task], pool: ProcessPoolExecutor, ahead: int, done: Done) -> Iterator[tuple[Task, ShardInfo]]:
    waiting: deque[tuple[Task, Callable[[], ShardInfo]]] = deque()
    for task in tasks:
        known = done(task)
        waiting.append((task, pool.submit(worker.make, task).result if known is None else _constant(known)))
        if len(waiting) == ahead:
            first, result = waiting.popleft()
            yield first, result()
    for task, result in waiting:
        yield task, result()


def _constant(info: ShardInfo) -> Callable[[], ShardInfo]:
    return lambda: info
