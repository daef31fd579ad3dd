"""From an application to a process that listens, and ends in good order."""

import asyncio
import logging
import signal
import socket

import prometheus_client
import uvicorn
from fastapi import FastAPI

from ..errors import InputError
from .host import BaseHost

log = logging.getLogger("braidlm.server")

# For clients that do not take the end of a stream.
_PATIENCE_S = 10


class _Server(uvicorn.Server):
    """Ends in two steps: first answers may come to their end, then they are cut, while their clients are there."""

    def __init__(self, config: uvicorn.Config, host: BaseHost, drain: int) -> None:
        super().__init__(config)
        self._host = host
        self._drain = drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called when a signal has come."""
        cutting = asyncio.create_task(self._cut())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut(self) -> None:
        await asyncio.sleep(self._drain)
        await self._host.cut()


def serve(app: FastAPI, address: str, port: int, drain: int) -> None:
    """Serves what `create_app` made, until SIGTERM or SIGINT.

    Then answers have `drain` seconds to end, and what they wrote is stored. Raises what kept the model from loading.
    """
    listening = _listen(address, port)
    host: BaseHost = app.state.host
    prometheus_client.disable_created_metrics()  # when each counter began: a line for every line
    config = uvicorn.Config(
        app,
        timeout_graceful_shutdown=drain + _PATIENCE_S,
        access_log=False,
        log_level="warning",
        server_header=False,
    )
    server = _Server(config, host, drain)

    def stop(*_: object) -> None:
        server.should_exit = True

    host.on_failure = stop
    signal.signal(signal.SIGTERM, stop)  # also raised again by uvicorn at its end
    shown = f"[{address}]" if ":" in address else address
    log.info("listening on http://%s:%d", shown, listening.getsockname()[1])
    with listening:
        server.run(sockets=[listening])
    if host.failure is not None:
        raise host.failure


def _listen(address: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
    except (OSError, UnicodeError) as error:
        raise InputError(f"cannot listen on {address} port {port}: {error}") from None
    return listening
