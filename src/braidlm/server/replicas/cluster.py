"""Access to Ray: a cluster, replicas in it, and calls of them."""

import asyncio
import logging
import math
import re
import socket
from collections.abc import AsyncGenerator
from typing import Any

import ray
from prometheus_client import Metric
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve._private import replica as serve_replica
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import RayServeException
from starlette.types import Message, Scope

from ...errors import InputError
from ..errors import RefusedError
from .replica import CannotLoadError, Make, Replica
from .router import StickyRouter
from .routing import RoutingKey

_OBJECTS = 256 << 20  # bytes of shared memory, for what is on its way
_PATIENCE_S = 10.0  # with replicas that are asked how they are
_CLOSING_S = 60.0  # for storing what was written
# Engines have limits of their own, and say so; a limit here would have requests wait in silence.
_ANY = 1 << 20
_QUIET = {"log_level": "ERROR", "enable_access_log": False}


class Deployed(Replica):
    """Replica in a process of Ray Serve."""

    # Ray Serve awaits it.
    async def __init__(self, make: Make, share: int) -> None:  # type: ignore[misc]
        # Ray Serve gives each replica a port on all interfaces, for calls of a kind that are not made here.
        add_port = serve_replica.add_port_to_grpc_server
        serve_replica.add_port_to_grpc_server = lambda server, _: add_port(server, "127.0.0.1:0")
        super().__init__(make, share, lambda: str(serve.get_replica_context().rank.rank))
        await self.begin()


def connect(address: str | None) -> None:
    """Joins the Ray cluster at `address`, or starts one of this machine alone.

    To be called by the main thread: what is started ends with the thread that has started it.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init("local", include_dashboard=False, object_store_memory=_OBJECTS, **quiet)
        return
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():  # Ray alone would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_S).close()
        ray.init(address, **quiet)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise InputError(f"cannot join the Ray cluster at {address}: {' '.join(str(error).split())}") from None


class Replicas:
    """`count` replicas of a model, started and kept by Ray Serve."""

    def __init__(self, make: Make, count: int, gpus: int, name: str, *, remain: bool) -> None:
        """`gpus` is how many each needs; `name` is what Ray calls all of them together.

        `remain` says whether the cluster stays when this process ends. Raises `InputError` if no model can be loaded.
        """
        needs = {"CPU": 0.01, **({"GPU": gpus} if gpus else {})}  # any machine that may work at all
        machines = sum(
            node["Alive"] and all(node["Resources"].get(kind, 0) >= least for kind, least in needs.items())
            for node in ray.nodes()
        )
        if not machines:
            raise InputError(f"no machine of the Ray cluster has what a replica needs: {needs}")
        share = math.ceil(count / machines)
        self._name = name
        self._remain = remain
        serve.start(proxy_location="Disabled", logging_config=_QUIET)
        deployment = serve.deployment(Deployed).options(
            name="replica",
            num_replicas=count,
            max_replicas_per_node=share,
            ray_actor_options={"num_cpus": needs["CPU"], "num_gpus": gpus},
            max_ongoing_requests=_ANY,
            max_constructor_retry_count=1,
            health_check_period_s=2,
            logging_config=_QUIET,
            request_router_config=RequestRouterConfig(request_router_class=StickyRouter),
        )
        try:
            self._handle = serve.run(deployment.bind(make, share), name=name, route_prefix=None)
        except RuntimeError as error:
            raise InputError(_why_not(name) or f"Ray cannot start the replicas: {error}") from None

    async def forward(self, routing_key: RoutingKey, scope: Scope, body: bytes) -> AsyncGenerator[list[Message]]:
        """The messages of a response, from the replica that the rule names; stopping early tells that replica."""
        call = self._handle.options(stream=True, method_name="forward").remote(routing_key, scope, body)
        try:
            async for messages in call:
                yield messages
        except RayTaskError:  # a fault of ours, not of its machine
            raise
        except (RayError, RayServeException) as error:
            raise RefusedError(
                503, "the replica died that was to answer; try again", code="replica_died", wait=1
            ) from error
        finally:
            call.cancel()

    async def metrics(self) -> dict[str, list[Metric]]:
        """Metrics of each replica that answers, by its name."""
        return dict(await self._all("metrics", _PATIENCE_S))

    async def healthy(self) -> int:
        """Number of replicas that pass their health check."""
        return len(await self._all("check_health", _PATIENCE_S))

    async def cut_answers(self) -> None:
        """Cuts all answers off."""
        await self._all("cut_answers", _PATIENCE_S)

    async def close(self) -> None:
        """Ends all replicas, once they have stored what was generated."""
        await self._all("close", _CLOSING_S)
        if self._remain:
            await asyncio.to_thread(serve.delete, self._name)

    async def _all(self, method: str, patience: float) -> list[Any]:
        """Results of a method of each replica, but for those that fail."""
        try:
            results = await self._handle.broadcast(method).results_async(timeout_s=patience, return_exceptions=True)
        except (TimeoutError, RayError, RayServeException):
            return []
        return [result for result in results if not isinstance(result, BaseException)]


def _why_not(name: str) -> str | None:
    """Error of a replica that could not load its model; None if there is none."""
    messages = "".join(deployment.message for deployment in serve.status().applications[name].deployments.values())
    found = re.findall(rf"{CannotLoadError.__name__}: (.*)", messages)
    return found[-1] if found else None
