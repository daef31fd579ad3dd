"""Router for Ray Serve by the rule of `routing`: one for each frontend, in the frontend's process."""

import asyncio
from collections import Counter
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from .routing import Routing


class StickyRouter(RequestRouter):  # type: ignore[misc]
    """Router that sends each request to the one replica that the rule names."""

    def initialize_state(self, **_: Any) -> None:
        """Called once by Ray Serve."""
        self._routing = Routing()
        self._answering: dict[str, str] = {}  # which replica answers each request, from when it was chosen

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replica that is to answer, as a list. Called again if it does not take the request."""
        if pending_request is None:
            return [candidate_replicas]
        # Ray Serve shall wait a moment before it asks again.
        pending_request.routing_context.should_backoff = True
        request: str = pending_request.metadata.internal_request_id
        self._answering.pop(request, None)
        candidates = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        answering = Counter(self._answering.values())
        chosen = self._routing.choose(pending_request.args[0], {name: answering[name] for name in candidates})
        self._answering[request] = chosen

        def given_up(future: asyncio.Future[Any]) -> None:
            if future.cancelled():
                self._answering.pop(request, None)

        pending_request.future.add_done_callback(given_up)
        return [[candidates[chosen]]]

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Called by Ray Serve when a request has ended, whatever happened."""
        if self._answering.get(internal_request_id) == replica_id.unique_id:
            del self._answering[internal_request_id]
