"""What clients talk to where there are replicas: the same application, whose routes lead to one of them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..app import create_app
from ..errors import RefusedError
from ..host import BaseModelHost
from ..metrics import merged
from ..replies import StatusReply
from ..settings import Settings
from .proxy import ReplicaProxy

if TYPE_CHECKING:
    from .cluster import Replicas


class Frontend(BaseModelHost):
    """Serves the replicas that `deploy` makes."""

    def __init__(self, deploy: "Callable[[], Replicas]", settings: Settings) -> None:
        super().__init__(settings)
        self._deploy = deploy
        self._replicas: Replicas | None = None

    def _open(self) -> None:
        self._replicas = self._deploy()

    @property
    def replicas(self) -> "Replicas":
        """Those that answer; refuses while there are none."""
        return self.ready(self._replicas)

    @property
    def is_open(self) -> bool:
        """Whether the replicas have begun to answer."""
        return self._replicas is not None

    async def require_answers(self) -> None:
        """Refuses if no replica is well."""
        if not await self.replicas.healthy():
            raise RefusedError(503, "no replica answers; try again soon", code="no_replica", wait=2)

    async def figures(self) -> bytes:
        """All for Prometheus: of this process, and of each replica."""
        own = [f for f in self.metrics.collect() if f.name == "braidlm_requests" or f.name.startswith("process_")]
        return merged(own, await self._replicas.figures() if self._replicas is not None else {})

    async def cut(self) -> None:
        """Ends all answers where they are."""
        if self._replicas is not None:
            await self._replicas.cut()

    async def close(self) -> None:
        """Ends all replicas; answers that are being written are stored as far as they are."""
        self._closed = True
        if self._replicas is not None:
            await self._replicas.close()


def create_front(front: Frontend) -> FastAPI:
    """The application that serves what the replicas of `front` do."""
    app = create_app(front)

    async def health(_: Request) -> Response:
        front.require_health()
        if front.is_open:
            await front.require_answers()
        return Response(StatusReply(status="ok").model_dump_json(), media_type="application/json")

    async def ready(_: Request) -> Response:
        await front.require_answers()
        return Response(StatusReply(status="ready").model_dump_json(), media_type="application/json")

    async def metrics(_: Request) -> Response:
        return Response(await front.figures(), media_type="text/plain; version=0.0.4; charset=utf-8")

    own = {"/health": health, "/ready": ready, "/metrics": metrics}
    routes = []
    for path, operations in app.openapi()["paths"].items():
        if path.startswith("/v1/models"):  # as it is without replicas
            continue
        route = Route(
            path,
            own.get(path, ReplicaProxy(lambda: front.replicas, front.settings)),
            methods=[*operations],
            middleware=[Middleware(_Named, path)],
        )
        route.methods = {*map(str.upper, operations)}  # without HEAD, which Starlette adds and FastAPI does not
        routes.append(route)
    app.router.routes[:0] = routes
    return app


class _Named:
    """Has the log tell the pattern of a path, as for routes of FastAPI."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._route = SimpleNamespace(path=path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route
        await self._app(scope, receive, send)
