"""What Python's search for garbage may hold up in a server."""

import gc
import signal
from typing import Any

import pytest

from braidlm.server import ModelHost, Settings, create_app, run
from tests.server.local import NAME, model


def test_what_is_loaded_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: once the model is there, and before it is said to be ready, all that is loaded is set aside."""
    host = ModelHost(model, Settings(name=NAME))
    seen: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: seen.append("loaded" if host.served else "nothing"))
    monkeypatch.setattr("braidlm.server.host.log.info", lambda text, *_: seen.append(text))

    def begin(*_: Any, **__: Any) -> None:
        host.start()
        host.wait()

    monkeypatch.setattr(run._Server, "run", begin)
    before = signal.getsignal(signal.SIGTERM)
    try:
        run.serve(create_app(host), "127.0.0.1", 0, shutdown_timeout=0)
    finally:
        signal.signal(signal.SIGTERM, before)
        host.served.engine.close()
    assert [what for what in seen if what in ("loaded", "nothing", "ready")] == ["loaded", "ready"]
