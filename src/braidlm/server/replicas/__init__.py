"""Several copies of a model behind one server, on one machine or more, kept by Ray Serve.

`frontend` is what clients talk to, `replica` what answers them, `routing` says which replica answers what; `cluster`
and `router` are all that has to do with Ray.
"""

import os
import secrets

from fastapi import FastAPI

from ..settings import Settings
from .frontend import Frontend, create_frontend
from .replica import Make


def create_replicated(make: Make, settings: Settings, *, address: str | None, gpus: int, name: str) -> FastAPI:
    """Application that serves `settings.replicas` replicas of the host that `make` makes.

    `address` is a Ray cluster's; without one a cluster of this machine alone is started. Each replica needs `gpus`
    GPUs; `name` is what Ray calls all of them together. To be called by the main thread.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:  # nobody else can reach it: loopback only (Ray has it for systems without clusters), and a key
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    from . import cluster  # noqa: PLC0415 - optional, and reads the environment when it is imported

    cluster.connect(address)
    remain = address is not None
    return create_frontend(
        Frontend(lambda: cluster.Replicas(make, settings.replicas, gpus, name, remain=remain), settings)
    )


__all__ = ["create_replicated"]
