"""Process of the server: it listens, serves an application, and ends in good order."""

import asyncio
import gc
import logging
import resource
import signal
import socket
from typing import Any

import prometheus_client
import uvicorn
from fastapi import FastAPI

from ..errors import InputError
from .connections import Bounds, protocol_of
from .host import BaseModelHost

log = logging.getLogger("braidlm.server")

# For clients that do not take the end of a stream.
_PATIENCE_S = 10
# Connections that are taken in one turn of the event loop, and files that are open beside connections.
_BACKLOG, _OTHER_FILES = 128, 384


class _Server(uvicorn.Server):
    """Server that ends in two steps: first answers may come to their end, then they are cut off."""

    def __init__(self, config: uvicorn.Config, host: BaseModelHost, shutdown_timeout: int) -> None:
        super().__init__(config)
        self._host = host
        self._shutdown_timeout = shutdown_timeout

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called when a signal has come."""
        cutting = asyncio.create_task(self._cut())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut(self) -> None:
        await asyncio.sleep(self._shutdown_timeout)
        await self._host.cut_answers()


def serve(app: FastAPI, address: str, port: int, shutdown_timeout: int) -> None:
    """Serves an application of `create_app` at `address` and `port`, until SIGTERM or SIGINT.

    Then answers have `shutdown_timeout` seconds to end, and what was generated is stored. Raises the error that kept
    the model from loading.
    """
    listening = _listen(address, port)
    host: BaseModelHost = app.state.host
    prometheus_client.disable_created_metrics()  # when each counter began: a line for every line
    require_files(host.settings.max_connections)
    config = config_of(app, timeout_graceful_shutdown=shutdown_timeout + _PATIENCE_S, log_level="warning")
    server = _Server(config, host, shutdown_timeout)

    def stop(*_: object) -> None:
        server.should_exit = True

    host.on_failure = stop
    host.on_ready = _keep_what_is_loaded
    signal.signal(signal.SIGTERM, stop)  # also raised again by uvicorn at its end
    shown = f"[{address}]" if ":" in address else address
    log.info("listening on http://%s:%d", shown, listening.getsockname()[1])
    with listening:
        server.run(sockets=[listening])
    if host.failure is not None:
        raise host.failure


def _keep_what_is_loaded() -> None:
    """Excludes modules and weights from garbage collection: everything else stops for each full one."""
    gc.collect()
    gc.freeze()


def config_of(app: FastAPI, **options: Any) -> uvicorn.Config:
    """Configuration of uvicorn: with bounds on connections and headers, over h11 on every install."""
    settings = app.state.host.settings
    bounds = Bounds(settings.max_connections, settings.request_timeout)
    made: Any = protocol_of(bounds)
    return uvicorn.Config(
        app, http=made, timeout_keep_alive=int(bounds.idle), backlog=_BACKLOG, access_log=False, server_header=False,
        ws="none", **options,
    )  # fmt: skip


def require_files(connections: int) -> None:
    """Raises the limit of open files to what the connections need; `InputError` if the system does not allow it."""
    needed = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(
            f"{connections} connections need {needed} open files, but this system allows {hard}; see ulimit -n"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _listen(address: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
    except (OSError, UnicodeError) as error:
        raise InputError(f"cannot listen on {address} port {port}: {error}") from None
    return listening
