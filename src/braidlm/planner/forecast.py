"""Forecast of speed on a machine that has been measured (see `calibration`)."""

from collections.abc import Mapping
from typing import NamedTuple

from ..model import footprint
from ..spec import ModelSpec, mixer_kinds
from ..state.sequence import Precision
from .calibration import Calibration
from .floor import read_shares, state_traffic


class _Matrix(NamedTuple):
    """One matrix, or stack of experts: its name, its number of weights, their format."""

    name: str
    weights: int
    weight_format: str


class SpeedModel:
    """Speed of one model in one precision, on a measured machine."""

    def __init__(
        self, spec: ModelSpec, precision: Precision, kinds: Mapping[str, str], calibration: Calibration
    ) -> None:
        """`kinds` are those of quantized weights, by name; there is a measurement for each and for the dtype."""
        self._spec = spec
        self._precision = precision
        self._calibration = calibration
        model = footprint.skeleton(spec)
        head = "embed.weight" if spec.tied else "head.weight"
        matrices = {name: weight.numel() for name, weight in model.named_parameters() if weight.dim() > 1}
        formats = {name: kinds.get(name, precision.name).partition("-")[0] for name in matrices}
        self._head = _Matrix(head, matrices[head], formats[head])
        outer = ("embed.weight", "head.weight")
        self._inner = [_Matrix(name, matrices[name], formats[name]) for name in matrices if name not in outer]

    def prefill_seconds(self, length: int) -> float:
        """Seconds of a prompt of `length` tokens; the head runs for the last alone."""
        flops: dict[str, float] = {}
        for block in self._spec.blocks:
            (kind,) = mixer_kinds([block])
            flops[kind] = flops.get(kind, 0.0) + block.mixer.flops(self._spec.width, length)
        rates = self._calibration.mixer_rates
        slowest = min(rates.values())
        mixing = sum(count / rates.get(kind, slowest) for kind, count in flops.items())
        return mixing + self._products(length, 1)

    def step_seconds(self, context: int, sequences: int) -> float:
        """Seconds of one token of each of `sequences` sequences that have seen `context` tokens."""
        return (
            self._products(sequences, sequences) + sequences * self._state_bytes(context) / self._calibration.bandwidth
        )

    def _products(self, rows: int, head_rows: int) -> float:
        """Seconds of the products of `rows` rows; of a stack of experts those are multiplied that a row chooses."""
        seconds_of = self._calibration.seconds_of_weight
        of_one, of_all = read_shares(self._spec, 1), read_shares(self._spec, rows)
        total = self._head.weights * seconds_of(self._head.weight_format, head_rows)
        for name, weights, weight_format in self._inner:
            read = of_all.get(name, 1.0)
            each = max(1.0, rows * of_one.get(name, 1.0) / read)
            total += weights * read * seconds_of(weight_format, each)
        return total

    def _state_bytes(self, context: int) -> int:
        positions, precision = self._spec.meta_tokens + context, self._precision
        return sum(
            state_traffic(slot, positions, precision.name, precision.kv)
            for slots in self._spec.state_specs
            for slot in slots
        )
