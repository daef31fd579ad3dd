"""`braid serve`: the OpenAI API and a chat page, for many clients at once."""

import logging
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import not_installed
from .common import err, load_adapters
from .options import with_options
from .serve_config import DEFAULTS, LOCAL, PANELS, ServeConfig, read_config
from .session import store_at

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..api.language_model import LanguageModel
    from ..server import ModelHost

EXAMPLE = "Example: braid serve smollm2-135m"


@with_options(PANELS, defaults=DEFAULTS, over_file=True)
def command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A directory, a GGUF file, a preset's name, or a hub id; or --config has it.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of settings by these names (with underscores); options override it, --no-FLAG a flag.",
            show_default=False,
        ),
    ] = None,
    **given: Any,
) -> None:
    """Serve MODEL: the OpenAI API under /v1, a chat page at /, Prometheus metrics at /metrics."""
    asked = read_config(config, model, given)
    server = _import_server()
    process, settings = asked.process, asked.settings
    if not settings.api_keys and process.host not in LOCAL:
        err.print(
            f"braid: anybody who reaches {process.host} may use this server and read its sessions; see --api-key",
            markup=False,
        )
    # Replicas have working directories of their own.
    sessions = store_at(process.sessions).directory.absolute()
    adapters, states = (
        {name: place.absolute() for name, place in found.items()}
        for found in (process.adapters, process.initial_states)
    )
    make_host = HostMaker(
        replace(asked, process=replace(process, sessions=sessions, adapters=adapters, initial_states=states))
    )
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    app = server.create_app(make_host()) if settings.replicas == 1 else _replicated(make_host)
    server.serve(app, process.host, process.port, process.shutdown_timeout)


@dataclass(frozen=True)
class HostMaker:
    """Maker of the host of a model, in this process or in that of a replica."""

    config: ServeConfig

    def __call__(self, share: int | None = None) -> "ModelHost":
        """Host of the model, on a machine that `share` replicas share."""
        from ..server import ModelHost

        asked = self.config
        return ModelHost(
            lambda: self._load(share), asked.settings, store=store_at(asked.process.sessions), limits=asked.limits,
            kv_dtype=asked.loading.kv_dtype,
        )  # fmt: skip

    def _load(self, share: int | None) -> "LanguageModel":
        from ..ops.threads import processors

        loading = self.config.loading
        if share is not None:
            loading = replace(loading, threads=max(1, (loading.threads or processors()) // share))
        language = loading.load(self.config.model)
        load_adapters(language, self.config.process.adapters, self.config.process.initial_states)
        return language


def _replicated(make_host: HostMaker) -> "FastAPI":
    """Server of several replicas; it needs yet another package."""
    asked = make_host.config
    process, address = asked.process, asked.process.ray_address or os.environ.get("RAY_ADDRESS")
    gpus = int(asked.loading.device.startswith("cuda"))
    # Only one server can listen at a given port: it takes the place of one that was killed.
    name = f"braidlm-{socket.gethostname()}-{process.host}-{process.port or f'process-{os.getpid()}'}"
    address = None if address == "local" else address
    if address is None:  # replicas read the files of this machine
        _check_files(asked)
    try:
        from ..server.replicas import create_replicated

        return create_replicated(make_host, asked.settings, address=address, gpus=gpus, name=name)
    except ModuleNotFoundError as error:
        raise not_installed("braid serve --replicas", str(error.name), "ray") from None


def _check_files(asked: ServeConfig) -> None:
    """Raises at once what replicas would tell of options and files, once Ray has started them."""
    from ..adapters.initial import read_initial
    from ..adapters.published import read_config as read_adapter

    asked.loading.check(asked.model)
    for directory in asked.process.adapters.values():
        read_adapter(directory)
    for file in asked.process.initial_states.values():
        read_initial(file)


def _import_server() -> Any:
    """Module of the server, which needs more packages than the library."""
    from .. import server

    try:
        server.create_app  # noqa: B018 - imports what it needs
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "fastapi_swagger", "uvicorn", "prometheus_client"):
            raise
        raise not_installed("braid serve", str(error.name), "serve") from None
    return server
