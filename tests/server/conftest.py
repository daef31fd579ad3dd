"""Real servers: `braid serve` as a process of its own, on real weights; and in-process ones on tiny models."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import pytest

MODEL = "smollm2-135m"
_BRAID = "from braidlm.cli.main import main; main()"


@dataclass
class Server:
    """A running `braid serve`."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120)

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=120)

    def post(self, path: str, data: object) -> httpx2.Response:
        return httpx2.post(self.url + path, json=data, timeout=120)

    def await_ready(self) -> None:
        while self.get("/ready").status_code != 200:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)


Start = Callable[..., Server]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers; those that still run at the end are stopped."""
    started: list[Server] = []

    def begin(*options: str, sessions: Path | None = None, ready: bool = True) -> Server:
        directory = tmp_path_factory.mktemp("serve")
        log = directory / "log"
        command = [sys.executable, "-c", _BRAID, "serve", MODEL, "--port", "0", "--threads", "1"]
        command += ["--sessions", str(sessions or directory / "sessions"), *options]
        with log.open("w") as file:
            process = subprocess.Popen(command, stderr=file, stdout=file, text=True)
        while not (found := re.search(r"listening on (http://\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        started.append(Server(process, found[1], log))
        if ready:
            started[-1].await_ready()
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGKILL)
        server.process.wait()


@pytest.fixture(scope="session")
def server(start: Start) -> Server:
    """One server for all tests that do not change what it does."""
    return start()
