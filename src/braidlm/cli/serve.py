"""`braid serve`: the OpenAI API and a chat page, for many clients at once."""

import logging
import os
import re
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError, not_installed
from ..system.choices import MOST_SPECULATIVE_TOKENS
from ..text.tool_calls import AUTO, NAMES
from .common import (
    AllowPickle,
    Deterministic,
    Device,
    Dtype,
    KvDtype,
    ModelArgument,
    Ops,
    Quantize,
    Threads,
    beside,
    err,
    load_model,
)
from .session import Sessions, store_at

EXAMPLE = "Example: braid serve smollm2-135m"

_LOCAL = ("127.0.0.1", "localhost", "::1")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def bytes_of(text: str) -> int:
    """Number of bytes of `4GiB`, `512M` or a plain number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise InputError(f"{text!r} is no amount of memory; write 4GiB, 512MiB or a number of bytes")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def command(
    model: ModelArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8000,
    name: Annotated[str | None, typer.Option(help="Name of the model in the API (else MODEL's own name).")] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(help="Key that clients must send; may be repeated, also in $BRAIDLM_API_KEYS (commas)."),
    ] = None,
    sessions: Sessions = None,
    parallel: Annotated[int, typer.Option(min=1, help="Maximum number of sequences decoded at once.")] = 16,
    max_queue: Annotated[int, typer.Option(min=1, help="Maximum number of waiting requests; 429 beyond it.")] = 256,
    memory: Annotated[str, typer.Option(help="Memory for the states of running requests.")] = "4GiB",
    cache_memory: Annotated[str, typer.Option(help="Memory for snapshots in the prefix cache.")] = "1GiB",
    snapshot_interval: Annotated[
        int, typer.Option(min=1, help="Maximum number of tokens between two snapshots in the prefix cache.")
    ] = 256,
    speculative_tokens: Annotated[
        int,
        typer.Option(min=0, max=MOST_SPECULATIVE_TOKENS, help="Maximum number of draft tokens per sequence and step."),
    ] = MOST_SPECULATIVE_TOKENS,
    max_prompt_tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens of a prompt.")] = 1 << 17,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum number of generated tokens of a chat request that gives none.")
    ] = 2048,
    max_body: Annotated[
        str | None,
        typer.Option(help="Maximum size of a request's body (else what the context can hold, up to 8MiB)."),
    ] = None,
    max_connections: Annotated[int, typer.Option(min=1, help="Maximum number of open connections.")] = 512,
    request_timeout: Annotated[
        int, typer.Option(min=1, help="Seconds until a request must have come as a whole; 408 beyond it.")
    ] = 30,
    rate_limit: Annotated[
        int, typer.Option(min=0, help="Maximum number of requests a minute for each client; 0 for no limit.")
    ] = 0,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of web pages that may call the server (CORS); may be repeated.")
    ] = None,
    shutdown_timeout: Annotated[
        int, typer.Option(min=0, help="Seconds that answers have to end after SIGTERM before they are cut.")
    ] = 30,
    adapter: Annotated[
        list[str] | None, typer.Option(help="Adapter as NAME=DIR, served as model:NAME; may be repeated.")
    ] = None,
    initial_state: Annotated[
        list[str] | None,
        typer.Option(help="Learned initial state as NAME=FILE, served as model:NAME; may be repeated."),
    ] = None,
    tool_format: Annotated[
        str, typer.Option(help=f"Format of the model's tool calls: {', '.join(NAMES)}.", show_default=True)
    ] = AUTO,
    share_prefix_cache: Annotated[
        bool, typer.Option("--share-prefix-cache", help="Share the prefix cache between API keys.")
    ] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write prompts to the log.")] = False,
    replicas: Annotated[
        int, typer.Option(min=1, help="Number of processes that serve the model (Ray); limits are per replica.")
    ] = 1,
    ray_address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster (else $RAY_ADDRESS, else this machine alone).")
    ] = None,
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    kv_dtype: KvDtype = None,
    device: Device = "cpu",
    ops: Ops = "auto",
    threads: Threads = None,
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Serve MODEL: the OpenAI API under /v1, a chat page at /, Prometheus metrics at /metrics."""
    from ..engine import Limits
    from ..ops.threads import processors

    serving = _serving()
    if ray_address is not None and replicas == 1:
        raise InputError("--ray-address is where replicas run; say how many with --replicas")
    adapters, initials = _named(adapter, "--adapter"), _named(initial_state, "--initial-state")
    keys = (*(api_key or ()), *filter(None, os.environ.get("BRAIDLM_API_KEYS", "").split(",")))
    settings = serving.Settings(
        name=name or Path(model).name,
        api_keys=keys,
        max_body=None if max_body is None else bytes_of(max_body),
        max_connections=max_connections,
        request_timeout=request_timeout,
        max_tokens=max_tokens,
        rate_limit=rate_limit,
        cors_origins=tuple(cors_origin or ()),
        # A page from elsewhere could have its own name point here; it would ask by that name.
        allowed_hosts=(*_LOCAL, "[::1]") if host in _LOCAL else (),
        share_prefix_cache=share_prefix_cache,
        log_prompts=log_prompts,
        replicas=replicas,
        tool_format=tool_format,
        adapters=tuple(adapters),
        initial_states=tuple(initials),
    )
    limits = Limits(
        parallel=parallel, max_queue=max_queue, memory=bytes_of(memory), cache_memory=bytes_of(cache_memory),
        snapshot_interval=snapshot_interval, max_prompt_tokens=max_prompt_tokens,
        speculative_tokens=speculative_tokens,
    )  # fmt: skip
    if not keys and host not in _LOCAL:
        err.print(
            f"braid: anybody who reaches {host} may use this server and read its sessions; see --api-key", markup=False
        )
    # Replicas have working directories of their own.
    directory = store_at(sessions).directory.absolute()
    place = str(Path(model).absolute()) if Path(model).exists() else model

    def make(share: int | None = None) -> Any:
        """Host of the model, on a machine that `share` replicas share."""

        def load() -> Any:
            language = load_model(
                place,
                dtype=dtype,
                device=device,
                ops=ops,
                allow_pickle=allow_pickle,
                threads=threads if share is None else max(1, (threads or processors()) // share),
                quantize=quantize,
                deterministic=deterministic,
            )
            beside(language, adapters, initials)
            return language

        return serving.ModelHost(load, settings, store=store_at(directory), limits=limits, kv_dtype=kv_dtype)

    logging.basicConfig(format="%(message)s", level=logging.INFO)
    app = serving.create_app(make()) if replicas == 1 else _replicated(make, settings, ray_address, device, host, port)
    serving.serve(app, host, port, shutdown_timeout)


def _named(given: list[str] | None, option: str) -> dict[str, Path]:
    """Values of a NAME=PLACE option; places become absolute, since replicas have working directories of their own."""
    found: dict[str, Path] = {}
    for text in given or ():
        name, equals, place = text.partition("=")
        if not (name and equals and place) or name in found:
            raise InputError(f"{option} {text!r} is not of the form NAME=PLACE with a name of its own")
        found[name] = Path(place).absolute()
    return found


def _replicated(make: Any, settings: Any, address: str | None, device: str, host: str, port: int) -> Any:
    """Server of several replicas; it needs yet another package."""
    address = address or os.environ.get("RAY_ADDRESS")
    gpus = int(device.startswith("cuda"))
    # Only one server can listen at a given port: it takes the place of one that was killed.
    name = f"braidlm-{socket.gethostname()}-{host}-{port or f'process-{os.getpid()}'}"
    try:
        from ..server.replicas import create_replicated

        return create_replicated(make, settings, address=None if address == "local" else address, gpus=gpus, name=name)
    except ModuleNotFoundError as error:
        raise not_installed("braid serve --replicas", str(error.name), "ray") from None


def _serving() -> Any:
    """Module of the server, which needs more packages than the library."""
    try:
        from .. import server
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "fastapi_swagger", "uvicorn", "prometheus_client"):
            raise
        raise not_installed("braid serve", str(error.name), "serve") from None
    return server
