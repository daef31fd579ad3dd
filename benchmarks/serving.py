"""A server as a process of its own: started on a free port, awaited, asked, watched, ended."""

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import tokenizers

import braidlm
from braidlm import LanguageModel
from braidlm.errors import UnavailableError
from braidlm.families.presets import PRESETS, preset
from braidlm.text.tokenizer import Settings, Tokenizer

BRAID = "from braidlm.cli.main import main; main()"
_LISTENING = re.compile(r"(?:listening|running) on (http://[^\s/]+)")
_TIMEOUT_S = 120
_GLANCE_S = 0.05


@dataclass
class Server:
    """A running server; `log` is what it has said."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def client(self) -> openai.OpenAI:
        """Somebody who asks through OpenAI's own package."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=_TIMEOUT_S)

    def get(self, path: str) -> httpx2.Response:
        """An answer to a question."""
        return httpx2.get(self.url + path, timeout=_TIMEOUT_S)

    def post(self, path: str, data: object) -> httpx2.Response:
        """An answer to a request."""
        return httpx2.post(self.url + path, json=data, timeout=_TIMEOUT_S)

    def await_ready(self) -> None:
        """Until the model is loaded."""
        while not self._is_ready():
            require_alive(self.process, self.log)
            time.sleep(2 * _GLANCE_S)

    def _is_ready(self) -> bool:
        try:
            return self.get("/ready").status_code == 200
        except httpx2.ConnectError:  # the log says where it will listen a moment before it does
            return False

    def end(self) -> None:
        """Ends the process at once; what it was doing is lost."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def started(command: Sequence[str], log: Path) -> Server:
    """Runs a server that says in its log where it listens."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, text=True)
    while not (found := _LISTENING.search(log.read_text())):
        require_alive(process, log)
        time.sleep(_GLANCE_S)
    return Server(process, found[1], log)


def require_alive(process: subprocess.Popen[str], log: Path) -> None:
    """`UnavailableError` with the server's last words if it has ended."""
    if (code := process.poll()) is not None:
        said = [line.strip() for line in log.read_text().splitlines() if line.strip()]
        raise UnavailableError(f"the server has ended ({said[-1] if said else f'exit code {code}'})")


def braid_serve(model: str | Path, *options: str, directory: Path) -> Server:
    """`braid serve` on a free port; its log, and its sessions unless told otherwise, are in `directory`."""
    command = [sys.executable, "-c", BRAID, "serve", str(model), "--port", "0"]
    return started([*command, "--sessions", str(directory / "sessions"), *options], directory / "log")


@contextmanager
def serving(model: str | Path, *options: str) -> Iterator[Server]:
    """`braid serve` for the time of a `with` block, ready."""
    with tempfile.TemporaryDirectory(prefix="braidlm-serving-") as place:
        server = braid_serve(model, *options, directory=Path(place))
        try:
            server.await_ready()
            yield server
        finally:
            server.end()


def servable(name: str, place: Path) -> str | Path:
    """What `braid serve` takes for a model's name: a preset whose weights no package has gets random ones.

    Those are in bfloat16, beside SmolLM2's vocabulary without its end: texts are as long as was asked for, and
    their pieces can be written down.
    """
    if name not in PRESETS or preset(name).package is not None:
        return name
    known = braidlm.load("smollm2-135m").tokenizer
    assert known is not None
    made = braidlm.build(name, dtype="bfloat16")
    words = Tokenizer(tokenizers.Tokenizer.from_str(known.to_json()), Settings({}))
    path = place / name
    LanguageModel(made.network, words, made.origin).save(path)
    return path
