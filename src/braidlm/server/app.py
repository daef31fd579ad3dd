"""The server as an ASGI application: routes, limits, the page."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi_swagger import patch_fastapi
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from . import chat, completions, embeddings, errors, model_card, session_routes
from .bodies import Bodies
from .host import BaseModelHost
from .middleware import Access, RequestLog
from .replies import ErrorReply

_PAGE = Path(__file__).parent / "page"
_REFUSALS = (400, 401, 404, 408, 409, 413, 415, 429, 431, 503, 507)
_ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorReply} for status in _REFUSALS}
# The page needs nothing from elsewhere, and nothing that it shows shall be able to fetch anything.
_POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_THREADS = 32  # that wait: for the tokenizer, for the disk, for the engine


def create_app(host: BaseModelHost) -> FastAPI:
    """Application that serves the model of `host`, which begins to load when the application starts."""
    app = unguarded(host)
    _guard(app, host)
    return app


def unguarded(host: BaseModelHost) -> FastAPI:
    """Application without middleware, for replicas: the frontend has checked keys and limits."""

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        with ThreadPoolExecutor(_THREADS, "braidlm-work") as workers:
            asyncio.get_running_loop().set_default_executor(workers)
            host.start()
            yield
            await host.close()

    app = FastAPI(
        title="braidlm", version=__version__, lifespan=life, responses=_ERRORS,
        docs_url=None, redoc_url=None, swagger_ui_oauth2_redirect_url=None,
    )  # fmt: skip
    app.state.host = host
    errors.install(app)
    for part in (chat, completions, embeddings, session_routes, model_card):
        app.include_router(part.router)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    # FastAPI's own /docs would have a browser fetch its scripts from elsewhere.
    patch_fastapi(
        app,
        "/docs",
        redirect_from_root_to_docs=False,
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon.png",
        swagger_ui_parameters={"filter": True},
    )
    app.mount("/page", StaticFiles(directory=_PAGE), name="page")
    return app


def _guard(app: FastAPI, host: BaseModelHost) -> None:
    """Adds the middleware that every request passes; the last one is the outermost."""
    settings = host.settings
    app.add_middleware(Bodies, most=host.most_body)
    app.add_middleware(Access, keys=settings.api_keys, rate=settings.rate_limit)
    if settings.allowed_hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors_origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(_Headers)
    app.add_middleware(RequestLog, observe=host.metrics.count_request)


class _Headers:
    """Middleware that has browsers keep to declared content types, and load nothing from elsewhere on the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = scope["type"] == "http" and (scope["path"] == "/" or scope["path"].startswith("/page/"))

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
                if own:
                    added += [(b"content-security-policy", _POLICY.encode()), (b"cache-control", b"no-cache")]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, answered)
