"""`braid serve`: the OpenAI API and a page to talk on, for many at once."""

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
    """`4GiB`, `512M` or a plain number as bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise InputError(f"{text!r} is no amount of memory; write 4GiB, 512MiB or a number of bytes")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def command(
    model: ModelArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    name: Annotated[str | None, typer.Option(help="What the model is called (else MODEL's own name).")] = None,
    api_key: Annotated[
        list[str] | None, typer.Option(help="Who may use it; may be repeated, also in $BRAIDLM_API_KEYS (commas).")
    ] = None,
    sessions: Sessions = None,
    slots: Annotated[int, typer.Option(min=1, help="Texts written at once.")] = 16,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 256,
    memory: Annotated[str, typer.Option(help="For states of running requests.")] = "4GiB",
    cache_memory: Annotated[str, typer.Option(help="For states of texts that may come again.")] = "1GiB",
    replay: Annotated[int, typer.Option(min=1, help="Tokens between two kept states, at most.")] = 256,
    guesses: Annotated[
        int, typer.Option(min=0, help="Tokens guessed from what a text repeats, at most; as many as pay are.")
    ] = MOST_SPECULATIVE_TOKENS,
    max_prompt: Annotated[int, typer.Option(min=1, help="Tokens of a prompt, at most.")] = 1 << 17,
    max_answer: Annotated[int, typer.Option(min=1, help="Tokens of an answer that asks for no number.")] = 2048,
    max_body: Annotated[
        str | None, typer.Option(help="Bytes of a request, at most (else what the context can hold, up to 8MiB).")
    ] = None,
    max_connections: Annotated[int, typer.Option(min=1, help="Maximum number of open connections.")] = 512,
    request_timeout: Annotated[int, typer.Option(min=1, help="Seconds in which a request must come whole.")] = 30,
    rate: Annotated[int, typer.Option(min=0, help="Requests a minute for each client; 0: any.")] = 0,
    origin: Annotated[list[str] | None, typer.Option(help="Web pages from elsewhere that may ask (CORS).")] = None,
    drain: Annotated[int, typer.Option(min=0, help="Seconds that answers have to end after SIGTERM.")] = 30,
    adapter: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR: an adapter, asked for as model:NAME; may be repeated.")
    ] = None,
    initial_state: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE: a learned initial state, as model:NAME; may be repeated.")
    ] = None,
    tool_format: Annotated[
        str, typer.Option(help=f"Format of the model's tool calls: {', '.join(NAMES)}.", show_default=True)
    ] = AUTO,
    share_prefix_cache: Annotated[
        bool, typer.Option("--share-prefix-cache", help="Let prompts of one API key be found in those of another.")
    ] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Have the log tell what is asked.")] = False,
    replicas: Annotated[int, typer.Option(min=1, help="Copies of the model, kept by Ray; limits are each one's.")] = 1,
    ray_address: Annotated[
        str | None, typer.Option(help="A Ray cluster to join (else $RAY_ADDRESS, else this machine alone).")
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
    """Serve MODEL: the OpenAI API under /v1, a page to talk on at /, figures at /metrics."""
    from ..engine import Limits
    from ..ops.threads import processors

    serving = _serving()
    if ray_address is not None and replicas == 1:
        raise InputError("--ray-address is where replicas run; say how many with --replicas")
    adapters, initials = _named(adapter, "--adapter"), _named(initial_state, "--initial-state")
    keys = (*(api_key or ()), *filter(None, os.environ.get("BRAIDLM_API_KEYS", "").split(",")))
    settings = serving.Settings(
        name=name or Path(model).name,
        keys=keys,
        body=None if max_body is None else bytes_of(max_body),
        connections=max_connections,
        arriving=request_timeout,
        answer=max_answer,
        rate=rate,
        origins=tuple(origin or ()),
        # A page from elsewhere could have its own name point here; it would ask by that name.
        hosts=(*_LOCAL, "[::1]") if host in _LOCAL else (),
        share_prefix_cache=share_prefix_cache,
        log_prompts=log_prompts,
        replicas=replicas,
        tool_format=tool_format,
        adapters=tuple(adapters),
        initials=tuple(initials),
    )
    limits = Limits(
        slots=slots, waiting=queue, memory=bytes_of(memory), cache_memory=bytes_of(cache_memory), replay=replay,
        prompt=max_prompt, guesses=guesses,
    )  # fmt: skip
    if not keys and host not in _LOCAL:
        err.print(
            f"braid: whoever reaches {host} may use this server and read its sessions; see --api-key", markup=False
        )
    # Replicas have working directories of their own.
    directory = store_at(sessions).directory.absolute()
    place = str(Path(model).absolute()) if Path(model).exists() else model

    def make(share: int | None = None) -> Any:
        """What serves the model, on a machine that has `share` copies of it."""

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
    serving.serve(app, host, port, drain)


def _named(given: list[str] | None, option: str) -> dict[str, Path]:
    """NAME=PLACE options; places are made whole, since replicas have working directories of their own."""
    found: dict[str, Path] = {}
    for text in given or ():
        name, equals, place = text.partition("=")
        if not (name and equals and place) or name in found:
            raise InputError(f"{option} {text!r} is not of the form NAME=PLACE with a name of its own")
        found[name] = Path(place).absolute()
    return found


def _replicated(make: Any, settings: Any, address: str | None, device: str, host: str, port: int) -> Any:
    """The server whose model has several copies; it needs yet another package."""
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
    """The server, which needs more packages than the library."""
    try:
        from .. import server
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "fastapi_swagger", "uvicorn", "prometheus_client"):
            raise
        raise not_installed("braid serve", str(error.name), "serve") from None
    return server
