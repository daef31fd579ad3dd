"""Check of a request before it waits: what can never run is refused at once."""

from ..errors import ContextLengthError, InputError
from ..generation.bounds import check_ids, check_length
from ..generation.sampling import check_sampling
from ..spec import ModelSpec
from ..state.sequence import Precision
from .limits import Limits
from .request import Request


class StateBytes:
    """Bytes of the states of a model's sequences, at one precision."""

    def __init__(self, spec: ModelSpec, precision: Precision) -> None:
        self._spec = spec
        self._dtypes = {"dtype": precision.name, "kv_dtype": precision.kv}

    @property
    def smallest(self) -> int:
        """Bytes of an empty sequence's state."""
        return self._spec.state_bytes(0, **self._dtypes)

    def __call__(self, request: Request) -> int:
        """Bytes that a request needs at most: those of all its sequences at their longest."""
        longest = request.seen + len(request.ids) + request.sampling.max_tokens
        length = min(longest, self._spec.max_positions or longest)
        return request.n * self._spec.state_bytes(length, **self._dtypes)


def check_request(request: Request, limits: Limits, spec: ModelSpec, state_bytes: StateBytes) -> None:
    """`InputError` if a request can never run: for its length, its ids, its sampling, or its bytes of state."""
    check_length(request.seen + len(request.ids), spec.max_positions)
    if len(request.ids) > limits.max_prompt_tokens:
        raise ContextLengthError(f"the prompt has {len(request.ids)} tokens, but may have {limits.max_prompt_tokens}")
    check_ids(request.ids, spec.vocab)
    check_sampling(request.sampling, spec.vocab)
    if request.n > limits.parallel:
        raise InputError(f"n is {request.n}, but at most {limits.parallel} sequences are decoded at once")
    if state_bytes(request) > limits.memory:
        raise InputError(f"the request needs {state_bytes(request)} bytes of state, but there are {limits.memory}")
