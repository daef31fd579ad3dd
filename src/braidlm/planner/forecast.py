"""Forecast of speed on a machine that has been measured (see `calibration`)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..model import footprint
from ..model.model import Model
from ..spec import ModelSpec, parts_of
from ..spec.state import RecurrentState, SharedKV, StateSpec
from ..state.sequence import Precision
from .calibration import Calibration, seconds_at
from .floor import read_shares, state_traffic

_OUTER = ("embed.weight", "head.weight")


class Matrix(NamedTuple):
    """One matrix, or stack of experts: its name, its number of weights, their format."""

    name: str
    weights: int
    weight_format: str


class SpeedModel:
    """Speed of one model in one precision, on a measured machine."""

    def __init__(
        self, spec: ModelSpec, precision: Precision, kinds: Mapping[str, str], calibration: Calibration
    ) -> None:
        """`kinds` are those of quantized weights, by name; the calibration `covers` all of these."""
        self._spec = spec
        self._precision = precision
        self._calibration = calibration
        matrices = _matrices(footprint.skeleton(spec), precision, kinds)
        head = "embed.weight" if spec.tied else "head.weight"
        self._head = next(matrix for matrix in matrices if matrix.name == head)
        self._inner = [matrix for matrix in matrices if matrix.name not in _OUTER]
        self._kinds = Counter(layer_kinds(spec))

    def prefill_seconds(self, length: int) -> float:
        """Seconds of a prompt of `length` tokens; the head runs for the last alone."""
        width, mixing = self._spec.width, 0.0
        for part in (part for block in self._spec.blocks for part in parts_of(block.mixer)):
            cost = self._calibration.prompts[type(part).__name__]
            mixing += length * width * cost.channel + part.flops(width, length) * cost.flop
        return mixing + self._products(length, 1)

    def step_seconds(self, context: int, sequences: int) -> float:
        """Seconds of one token of each of `sequences` sequences that have seen `context` tokens."""
        rates = self._calibration
        blocks = sum(count * seconds_at(rates.blocks[kind], sequences) for kind, count in self._kinds.items())
        own = seconds_at(rates.step, sequences) + blocks
        return own + self._products(sequences, sequences) + sequences * self._state_seconds(context, sequences)

    def _products(self, rows: int, head_rows: int) -> float:
        """Seconds of the products of `rows` rows; of a stack of experts those are multiplied that a row chooses."""
        rates = self._calibration.weights
        of_one, of_all = read_shares(self._spec, 1), read_shares(self._spec, rows)
        total = self._head.weights * seconds_at(rates[self._head.weight_format], head_rows)
        for name, weights, weight_format in self._inner:
            read = of_all.get(name, 1.0)
            each = max(1.0, rows * of_one.get(name, 1.0) / read)
            total += weights * read * seconds_at(rates[weight_format], each)
        return total

    def _state_seconds(self, context: int, rows: int) -> float:
        """Seconds of one row's states, in a step of `rows` rows."""
        positions, precision, rates = self._spec.meta_tokens + context, self._precision, self._calibration
        total = 0.0
        for kind, slot in _states(self._spec):
            table = rates.states[kind] if isinstance(slot, RecurrentState) else rates.kv[precision.kv]
            each = seconds_at(table, rows) / rows
            total += each * state_traffic(slot, positions, precision.name, precision.kv)
        return total


def covers(calibration: Calibration, spec: ModelSpec, precision: Precision, kinds: Mapping[str, str]) -> bool:
    """Whether a machine was measured for all that a model in this precision is made of."""
    mixers = {type(part).__name__ for block in spec.blocks for part in parts_of(block.mixer)}
    recurrent = {kind for kind, slot in _states(spec) if isinstance(slot, RecurrentState)}
    return (
        mixers <= calibration.prompts.keys()
        and recurrent <= calibration.states.keys()
        and set(layer_kinds(spec)) <= calibration.blocks.keys()
        and {precision.name, *map(_format, kinds.values())} <= calibration.weights.keys()
        and precision.kv in calibration.kv
    )


def layer_kinds(spec: ModelSpec) -> Iterator[str]:
    """Kinds of all mixers, parts of one apart, and feed-forward layers of a model."""
    for block in spec.blocks:
        yield from (type(part).__name__ for part in parts_of(block.mixer))
        if block.ffn is not None:
            yield type(block.ffn).__name__


def inner_matrices(model: Model) -> dict[str, int]:
    """Numbers of weights of the matrices and stacks of experts between the embedding and the head, by name."""
    precise = set(model.fp32_parameter_names())
    return {
        name: weight.numel()
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and name not in (*_OUTER, *precise)
    }


def _matrices(model: Model, precision: Precision, kinds: Mapping[str, str]) -> list[Matrix]:
    outer = {name: weight.numel() for name, weight in model.named_parameters() if name in _OUTER}
    return [
        Matrix(name, weights, _format(kinds.get(name, precision.name)))
        for name, weights in (outer | inner_matrices(model)).items()
    ]


def _format(kind: str) -> str:
    """Format of a kind of weights, with lows or without."""
    return kind.partition("-")[0]


def _states(spec: ModelSpec) -> Iterator[tuple[str, StateSpec]]:
    """States that a token reads, with the kind of mixer: keys and values of another block are read here again."""
    for block in spec.blocks:
        for part in parts_of(block.mixer):
            for slot in part.state_spec(spec.width):
                if isinstance(slot, SharedKV):
                    owned = spec.state_specs[slot.layer]
                    yield from ((type(part).__name__, each) for each in owned if not isinstance(each, RecurrentState))
                else:
                    yield type(part).__name__, slot
