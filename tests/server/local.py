"""A server in this process, on a tiny model of random weights: quick to start, and open to being disturbed."""

import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

import braidlm
from braidlm import LanguageModel
from braidlm.engine import Limits
from braidlm.server import ModelHost, Settings, create_app
from braidlm.server.run import config_of
from braidlm.sessions import SessionStore
from braidlm.text.tokenizer import Settings as TokenizerSettings
from braidlm.text.tokenizer import Tokenizer
from tests.families.tiny import tiny
from tests.text.made import TEMPLATE, backend

NAME = "tiny"
WITH_TOOLS = "{% if tools %}<tool_call>{{ tools | tojson }}\n{% endif %}" + TEMPLATE.replace(
    "{{ message.content }}",
    "{{ message.content }}{% for c in message.tool_calls %}{{ c.function | tojson }}{% endfor %}",
)


@dataclass
class Local:
    """A running server and what is inside of it."""

    url: str
    host: ModelHost

    def post(self, path: str, data: object, **more: Any) -> httpx2.Response:
        return httpx2.post(self.url + path, json=data, timeout=60, **more)

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=60)

    def idle(self) -> None:
        """Until the engine has nothing to do."""
        until(lambda: self.host.served.engine.stats[:3] == (0, 0, 0))


def until(true: Callable[[], bool]) -> None:
    """Waits; the test's own timeout ends what never comes true."""
    while not true():
        time.sleep(0.01)


def model(template: str | None = TEMPLATE, family: str = "mamba2", control: Sequence[str] = ()) -> LanguageModel:
    """Random weights over the bytes and `control` tokens; a context that a test cannot fill unless it wants to."""
    vocabulary = copy.deepcopy(backend())
    vocabulary.add_special_tokens(list(control))
    tokenizer = Tokenizer(vocabulary, TokenizerSettings({"eos_token": "<|im_end|>"}, template))
    spec = replace(tiny(family, 0), vocab=tokenizer.vocab_size, max_positions=100_000)
    made = braidlm.build(spec, seed=1)
    return LanguageModel(made.network, tokenizer, made.origin)


@contextmanager
def serving(
    served: LanguageModel | Callable[[], LanguageModel],
    sessions: Path | None = None,
    limits: Limits | None = None,
    *,
    ready: bool = True,
    **settings: Any,
) -> Iterator[Local]:
    """A server for the time of a `with` block; `settings` are those of `Settings`."""
    load = served if not isinstance(served, LanguageModel) else lambda: served
    store = None if sessions is None else SessionStore(sessions)
    host = ModelHost(load, Settings(name=NAME, **settings), store=store, limits=limits)
    server = uvicorn.Server(config_of(create_app(host), port=0, log_level="critical", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        local = Local(f"http://127.0.0.1:{port}", host)
        if ready:
            until(lambda: local.get("/ready").status_code == 200)
        yield local
    finally:
        server.should_exit = True
        thread.join()
