"""Calibration: a measurement of this machine in about ten seconds, kept in the user's cache directory.

A feed-forward layer of each kind of weights is measured in decode steps of some numbers of rows and in a prompt; a
mixer of each kind runs a prompt. Forecasts are made of these.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..decode.slots import copy_to_slots, slots_of
from ..errors import InputError
from ..model import footprint
from ..model.assign import assign
from ..model.initialisation import randomise
from ..model.model import Model
from ..ops import Segments
from ..ops.linear.quantized import WEIGHT_FORMATS, empty_quantized
from ..quant.policy import policy_of
from ..spec import Attention, Block, Hyena, Mamba, Mamba2, Mixer, Mlp, ModelSpec, Norm, Parallel
from ..system.files import is_there, read_object, whole_file
from ..system.memory import give_back, resident_memory
from .floor import inner_parameters
from .probe import machine, read_bandwidth, shortest_run

ROWS = (1, 4, 16, 256)
_HIDDEN = 32768  # so many that no cache holds the weights
_STATES = 1 << 30
_FORMATS = ("float32", "bfloat16", *WEIGHT_FORMATS)
_WIDTH, _PROMPT = 1024, 512
_FILE = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Measured rates of one machine.

    weight_seconds: by kind of weights, the seconds that one weight of a matrix takes for each of `ROWS` rows.
    mixer_rates: FLOPs a second of the mixing itself, by kind of mixer. bandwidth: bytes a second of reading states.
    process_bytes: resident memory of a process that holds no model.
    """

    weight_seconds: Mapping[str, tuple[float, ...]]
    mixer_rates: Mapping[str, float]
    bandwidth: float
    process_bytes: int

    def seconds_of_weight(self, weight_format: str, rows: float) -> float:
        """Seconds of one weight of a matrix for `rows` rows: a line between measured numbers, above in proportion."""
        times = self.weight_seconds[weight_format]
        if rows >= ROWS[-1]:
            return times[-1] * rows / ROWS[-1]
        for low, high, early, late in zip(ROWS, ROWS[1:], times, times[1:]):
            if rows <= high:
                return early + (late - early) * max(0.0, rows - low) / (high - low)
        raise AssertionError


def measure() -> Calibration:
    """Measures this machine, on torch's number of threads."""
    with torch.no_grad():
        seconds = {kind: _weight_seconds(kind) for kind in _FORMATS}
        rates = {type(mixer).__name__: _mixer_rate(mixer, seconds["bfloat16"][-1] / ROWS[-1]) for mixer in _mixers()}
    bandwidth = read_bandwidth(_STATES)
    # Last, when all that a process holds beside a model is there: the libraries of products, threads, kernels.
    give_back()
    return Calibration(seconds, rates, bandwidth, resident_memory())


def saved() -> Calibration | None:
    """The calibration of this machine, if there is one in the cache."""
    file = cache_file()
    kept = read_object(file, InputError).get(_machine_key()) if is_there(file) else None
    if kept is None:
        return None
    try:
        seconds = {kind: tuple(times) for kind, times in kept["weight_seconds"].items()}
        if any(len(seconds[kind]) != len(ROWS) for kind in _FORMATS):
            raise KeyError("rows")
        return Calibration(seconds, dict(kept["mixer_rates"]), kept["bandwidth"], kept["process_bytes"])
    except (AttributeError, KeyError, TypeError):
        raise InputError(
            f"{file} is no calibration of this version; run braid plan --calibrate to measure anew"
        ) from None


def save(calibration: Calibration) -> Path:
    """Keeps the calibration of this machine in the cache, beside those of others; returns the file."""
    file = cache_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = read_object(file, InputError) if is_there(file) else {}
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(known | {_machine_key(): asdict(calibration)}, indent=1))
    return file


def cache_file() -> Path:
    """The file of calibrations: below XDG_CACHE_HOME, or else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "braidlm" / _FILE


def _machine_key() -> str:
    """What a measurement depends on: the processor, its cores and threads in use, the versions."""
    known = machine()
    names = ("processor", "cores", "memory", "torch", "braidlm")
    return ", ".join([*(str(known[name]) for name in names), f"{torch.get_num_threads()} threads"])


def _weight_seconds(kind: str) -> tuple[float, ...]:
    """Seconds of a weight by rows: in decode steps and a prompt of one large feed-forward layer."""
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    model = _feed_forward(kind, dtype)
    weights = inner_parameters(model.spec, footprint.size(model.spec))
    state = model.new_state(1)
    slots = slots_of(model, state, ROWS[-2])
    copy_to_slots(slots, state.select([0] * ROWS[-2]))

    def step(rows: int) -> float:
        ids = torch.zeros(rows, dtype=torch.int64)
        return shortest_run(lambda: slots.step(ids, list(range(rows))), 4) / weights

    def prompt(rows: int) -> float:
        ids, segments = torch.zeros(rows, dtype=torch.int64), Segments((rows,))
        return shortest_run(lambda: model(ids, segments, state, logits="last"), 2) / weights

    return (*(step(rows) for rows in ROWS[:-1]), prompt(ROWS[-1]))


def _feed_forward(kind: str, dtype: torch.dtype) -> Model:
    mixer = Attention(heads=1, kv_heads=1, head_dim=64)
    block = Block(mixer=mixer, ffn=Mlp(hidden=_HIDDEN))
    model = footprint.skeleton(ModelSpec(vocab=32, width=_WIDTH, blocks=(block,), norm=Norm(eps=1e-5), tied=True))
    randomise(model, 0, dtype, "cpu")
    if kind in WEIGHT_FORMATS:
        for name, weight_format in policy_of(model, kind).items():
            made = empty_quantized(model.get_parameter(name).shape, weight_format, dtype=dtype)
            for part in made.buffers():
                part.fill_(1)
            assign(model, name, made)
    return model.eval()


def _mixers() -> tuple[Mixer, ...]:
    attention = Attention(heads=_WIDTH // 64, kv_heads=_WIDTH // 256, head_dim=64)
    mamba = Mamba(inner=_WIDTH, d_state=16, dt_rank=_WIDTH // 16)
    mamba2 = Mamba2(heads=2 * _WIDTH // 64, head_dim=64, d_state=128)
    return attention, mamba, mamba2, Hyena(d_state=2, filters=_WIDTH), Parallel(attention=attention, ssm=mamba)


def _mixer_rate(mixer: Mixer, product_seconds: float) -> float:
    """FLOPs a second of a mixer over a prompt, beyond its products with weights at so many seconds each and token."""
    spec = ModelSpec(vocab=32, width=_WIDTH, blocks=(Block(mixer=mixer),), norm=Norm(eps=1e-5), tied=True)
    model = footprint.skeleton(spec)
    randomise(model, 0, torch.bfloat16, "cpu")
    ids, segments, state = torch.zeros(_PROMPT, dtype=torch.int64), Segments((_PROMPT,)), model.eval().new_state(1)
    whole = shortest_run(lambda: model(ids, segments, state, logits="last"), 3)
    products = inner_parameters(spec, footprint.size(spec)) * _PROMPT * product_seconds
    return footprint.mixer_flops(spec, _PROMPT) / max(whole - products, 0.1 * whole)
