"""Floors: the least time that a pass can take on this machine, from the spec alone.

Decoding reads every weight that its sequences use and reads and writes their state: bytes over the
read bandwidth. A prompt multiplies by every weight that a token uses: operations over the matrix
rate. Nothing is added for what can be hidden behind these.
"""

from typing import NamedTuple

from ..model import footprint
from ..spec import ModelSpec
from ..spec.state import FullKV, RecurrentState, SharedKV, StateSpec, WindowKV, token_bytes
from .weight_bits import BITS

_PRECISE_BYTES = 4


class Rates(NamedTuple):
    """Measured rates of the machine: bytes read a second.

    Operations a second of matrix products in `dtype` and in float32.
    """

    bandwidth: float
    dtype: str
    products: float
    float32: float

    def best(self, other: "Rates") -> "Rates":
        """The higher of two measured rates each: whatever else a machine does only lowers them."""
        higher = {name: max(getattr(self, name), getattr(other, name)) for name in ("bandwidth", "products", "float32")}
        return self._replace(**higher)


def prefill_floor(spec: ModelSpec, length: int, rates: Rates) -> float:
    """Seconds that the arithmetic of one prompt takes; the head runs for the last token alone."""
    size = footprint.size(spec)
    products = 2 * (inner_parameters(spec, size) * length + size.embedding)
    return products / rates.products + footprint.mixer_flops(spec, length) / rates.float32


def inner_parameters(spec: ModelSpec, size: footprint.Size) -> int:
    """Number of parameters that one token uses between the embedding and the head."""
    return size.active - size.embedding * (1 if spec.tied else 2)


def decode_floor(spec: ModelSpec, context: int, sequences: int, precision: str, rates: Rates) -> float:
    """Seconds that reading the weights and moving the states take, for one token of each of `sequences` sequences."""
    dtype = "float32" if precision == "f32" else "bfloat16"
    state = states_traffic(spec, spec.meta_tokens + context, dtype)
    return (weight_traffic(spec, sequences, precision) + sequences * state) / rates.bandwidth


def weight_traffic(spec: ModelSpec, sequences: int, precision: str) -> float:
    """Bytes of the weights that one token of each of `sequences` sequences uses.

    An embedding that is not also the head is only looked up.
    """
    model = footprint.skeleton(spec)
    precise = set(model.fp32_parameter_names())
    shares = read_shares(spec, sequences)
    total = 0.0
    for name, parameter in model.named_parameters():
        # Whatever quantizes matrices keeps vectors as they are.
        wide = 2 if precision in ("int8", "int4") and parameter.dim() == 1 else BITS[precision] / 8
        total += parameter.numel() * shares.get(name, 1.0) * (_PRECISE_BYTES if name in precise else wide)
    return total


def read_shares(spec: ModelSpec, sequences: int) -> dict[str, float]:
    """Shares of weights that one token of each of `sequences` sequences reads, by name, where that is not the whole."""
    found = {} if spec.tied else {"embed.weight": sequences / spec.vocab}
    for i, block in enumerate(spec.blocks):
        if block.ffn is not None:
            found.update({f"blocks.{i}.ffn.{name}": share for name, share in block.ffn.read_shares(sequences).items()})
    return found


def states_traffic(spec: ModelSpec, length: int, dtype: str, kv_dtype: str | None = None) -> int:
    """Bytes that a token of one sequence reads and writes of all of its states, after `length` positions."""
    return sum(state_traffic(slot, length, dtype, kv_dtype) for slots in spec.state_specs for slot in slots)


def state_traffic(slot: StateSpec, length: int, dtype: str, kv_dtype: str | None = None) -> int:
    """Bytes of one sequence's slot that a token reads and writes, after `length` positions.

    Keys and values are stored as `kv_dtype`, or else as activations are.
    Keys and values of another layer are counted there: they may still be in a cache.
    """
    match slot:
        case RecurrentState():
            return 2 * slot.nbytes(length, dtype, dtype)
        case FullKV():
            return (length + 1) * token_bytes(slot, kv_dtype or dtype)
        case WindowKV():
            return (min(length, slot.window - 1 + slot.sink_tokens) + 1) * token_bytes(slot, kv_dtype or dtype)
        case SharedKV():
            return 0
