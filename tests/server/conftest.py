"""Real servers: `braid serve` as a process of its own, on real weights; and in-process ones on tiny models."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks.serving import Server, braid_serve

from .local import model as small_model

MODEL = "smollm2-135m"

Start = Callable[..., Server]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers; those that still run at the end are stopped."""
    started: list[Server] = []

    def begin(*options: str, model: str | Path = MODEL, sessions: Path | None = None, ready: bool = True) -> Server:
        directory = tmp_path_factory.mktemp("serve")
        kept = [] if sessions is None else ["--sessions", str(sessions)]
        started.append(braid_serve(model, "--threads", "1", *kept, *options, directory=directory))
        if ready:
            started[-1].await_ready()
        return started[-1]

    yield begin
    for server in started:
        server.end()


@pytest.fixture(scope="session")
def server(start: Start) -> Server:
    """One server for all tests that do not change what it does."""
    return start()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights over bytes on disk: a server of it is ready as soon as its imports are done."""
    directory = tmp_path_factory.mktemp("models") / "small"
    small_model().save(directory, "braidlm")
    return directory
