"""Check of a request before it waits: what can never run is refused at once."""

from ..errors import ContextLengthError, InputError
from ..generation.bounds import check_ids, check_length
from ..generation.sampling import check_sampling
from ..spec import ModelSpec
from .limits import Limits
from .request import Request
from .state_bytes import StateBytes


def check_request(request: Request, limits: Limits, spec: ModelSpec, state_bytes: StateBytes) -> None:
    """`InputError` if a request can never run: for its length, its ids, its sampling, or its bytes of state."""
    check_length(request.seen + len(request.ids), spec.max_positions)
    if len(request.ids) > limits.max_prompt_tokens:
        raise ContextLengthError(f"the prompt has {len(request.ids)} tokens, but may have {limits.max_prompt_tokens}")
    check_ids(request.ids, spec.vocab)
    check_sampling(request.sampling, spec.vocab)
    if request.n > limits.parallel:
        raise InputError(f"n is {request.n}, but at most {limits.parallel} sequences are decoded at once")
    needed = state_bytes.of_request(request)
    if needed > limits.memory:
        raise InputError(f"the request needs {needed} bytes of state, but there are {limits.memory}")
