"""Bytes of states that a request needs, known before it runs."""

from ..spec import ModelSpec
from ..state.sequence import Precision
from .request import Request


class StateBytes:
    """Bytes of the states of a model's sequences, at one precision."""

    def __init__(self, spec: ModelSpec, precision: Precision) -> None:
        self._spec = spec
        self._dtypes = {"dtype": precision.name, "kv_dtype": precision.kv}

    @property
    def of_empty_sequence(self) -> int:
        """Bytes of an empty sequence's state."""
        return self._spec.state_bytes(0, **self._dtypes)

    def of_request(self, request: Request) -> int:
        """Bytes that a request needs at most: those of all its sequences at their longest."""
        longest = request.seen + len(request.ids) + request.sampling.max_tokens
        length = min(longest, self._spec.max_positions or longest)
        return request.n * self._spec.state_bytes(length, **self._dtypes)
