"""Processes of training that tests start: forked from one that has imported torch, instead of each importing it."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.train.runs"])


def begin(log: Path, run: Callable[..., object], *told: object, **environment: str) -> ForkServerProcess:
    """Starts a process that runs a function of a module; what it says goes to the end of a file."""
    process = _CONTEXT.Process(target=_run, args=(log, run, told, environment))
    process.start()
    return process


def run_together(count: int, log: Path, run: Callable[..., object], *told: object) -> None:
    """Runs a function on `count` processes that find one another as torchrun's do; an error if one of them fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    members = [begin(log, run, *told, **place, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count)]
    for member in members:
        member.join()
    assert [member.exitcode for member in members] == [0] * count, log.read_text()


def _run(log: Path, run: Callable[..., object], told: tuple[object, ...], environment: dict[str, str]) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.update(environment)
    run(*told)
