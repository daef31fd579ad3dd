"""Frontend of replicas: the application that clients reach, whose routes lead to one of the replicas."""

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
    """Host of the replicas that `deploy` makes."""

    def __init__(self, deploy: "Callable[[], Replicas]", settings: Settings) -> None:
        super().__init__(settings)
        self._deploy = deploy
        self._replicas: Replicas | None = None

    def _open(self) -> None:
        self._replicas = self._deploy()

    @property
    def replicas(self) -> "Replicas":
        """The replicas; refuses while there are none."""
        return self.ready(self._replicas)

    @property
    def is_open(self) -> bool:
        """Whether the replicas have begun to answer."""
        return self._replicas is not None

    async def require_answers(self) -> None:
        """Refuses if no replica is well."""
        if not await self.replicas.healthy():
            raise RefusedError(503, "no replica answers; try again soon", code="no_replica", wait=2)

    async def metrics_text(self) -> bytes:
        """Metrics of this process and of each replica in Prometheus' format."""
        own = [f for f in self.metrics.collect() if f.name == "braidlm_requests" or f.name.startswith("process_")]
        return merged(own, await self._replicas.metrics() if self._replicas is not None else {})

    async def cut_answers(self) -> None:
        """Ends all answers where they are."""
        if self._replicas is not None:
            await self._replicas.cut_answers()

    async def close(self) -> None:
        """Ends all replicas; answers that are being written are stored as far as they are."""
        self._closed = True
        if self._replicas is not None:
            await self._replicas.close()


def create_frontend(frontend: Frontend) -> FastAPI:
    """Application that passes requests to the replicas of `frontend`."""
    app = create_app(frontend)

    async def health(_: Request) -> Response:
        frontend.require_health()
        if frontend.is_open:
            await frontend.require_answers()
        return Response(StatusReply(status="ok").model_dump_json(), media_type="application/json")

    async def ready(_: Request) -> Response:
        await frontend.require_answers()
        return Response(StatusReply(status="ready").model_dump_json(), media_type="application/json")

    async def metrics(_: Request) -> Response:
        return Response(await frontend.metrics_text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    own = {"/health": health, "/ready": ready, "/metrics": metrics}
    routes = []
    for path, operations in app.openapi()["paths"].items():
        if path.startswith("/v1/models"):  # as it is without replicas
            continue
        route = Route(
            path,
            own.get(path, ReplicaProxy(lambda: frontend.replicas, frontend.settings)),
            methods=[*operations],
            middleware=[Middleware(_Named, path)],
        )
        route.methods = {*map(str.upper, operations)}  # without HEAD, which Starlette adds and FastAPI does not
        routes.append(route)
    app.router.routes[:0] = routes
    return app


class _Named:
    """Middleware that names the pattern of a path for the log, as routes of FastAPI do."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._route = SimpleNamespace(path=path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route
        await self._app(scope, receive, send)
