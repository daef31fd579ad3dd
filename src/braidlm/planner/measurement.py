"""Measurement of this machine in 10 to 20 seconds: small models, two of which differ in what a rate is wanted of.

A block's own time is that of ten narrow blocks less that of two. A state's is the difference of more states a channel,
that of keys and values the difference of some thousand positions; rows take turns, so that none finds its state in the
processor's cache. What blocks of real width take beyond these is their weights' time. Over a prompt, a mixer takes what
its blocks take beyond their products, by two lengths or two numbers of states.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import torch

from ..decode.slots import slots_of
from ..layers.linear import Linear
from ..model import footprint
from ..model.model import Model
from ..ops import Segments
from ..ops.linear.quantized import WEIGHT_FORMATS
from ..spec import Block
from ..state.sequence import Precision
from ..system.memory import give_back, resident_memory
from .calibration import ROWS, STEP_ROWS, Calibration, PromptCost
from .floor import states_traffic
from .forecast import inner_matrices
from .probe import median_run
from .probe_models import D_STATES, FEED_FORWARDS, MIXERS, format_model, probe_model
from .synthetic_state import synthetic_state

_FORMATS = ("float32", "bfloat16", *WEIGHT_FORMATS)
_KV_DTYPES = ("float32", "bfloat16", "fp8", "int8")
# Less than what was measured around it cannot be told from noise: a rate is at least so much of the whole.
_LEAST = 0.01


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of what is measured: widths and channels, numbers of blocks, positions, runs of what is short or long."""

    narrow: int = 64
    width: int = 1024
    hidden: int = 4096
    inner: int = 2048
    few: int = 2
    many: int = 10
    blocks: int = 8
    positions: int = 4096
    prompts: tuple[int, int] = (256, 1024)
    runs: int = 11
    long_runs: int = 3


def measure(sizes: Sizes | None = None) -> Calibration:
    """Measures this machine, on torch's number of threads."""
    with torch.no_grad():
        return _Measurement(sizes or Sizes()).calibration()


class _Measurement:
    """One measurement; later rates are less what earlier ones account for."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes

    def calibration(self) -> Calibration:
        step, blocks = self._step_and_blocks()
        weights = {kind: self._weight_seconds(kind, step, blocks) for kind in _FORMATS}
        states = {kind: self._state_seconds(kind, weights["bfloat16"]) for kind in D_STATES}
        kv = {kv_dtype: self._kv_seconds(kv_dtype) for kv_dtype in _KV_DTYPES}
        prompts = {kind: self._prompt_cost(kind) for kind in MIXERS}
        # Last, when all that a process holds beside a model is there: the libraries of products, threads, kernels.
        give_back()
        return Calibration(
            step=step,
            blocks=blocks,
            weights=weights,
            states=states,
            kv=kv,
            prompts=prompts,
            process_bytes=resident_memory(),
        )

    def _step_and_blocks(self) -> tuple[tuple[float, ...], dict[str, tuple[float, ...]]]:
        """Seconds of a step without blocks, and of a block's mixer or feed-forward by kind."""
        sizes = self._sizes
        mixers = {kind: Block(mixer=make(sizes.narrow, D_STATES.get(kind, (0,))[0])) for kind, make in MIXERS.items()}
        plain = mixers["Attention"]
        ffns = {kind: Block(mixer=plain.mixer, ffn=make(sizes.narrow)) for kind, make in FEED_FORWARDS.items()}
        few, each = {}, {}
        for kind, block in (mixers | ffns).items():
            short, long = (self._steps(probe_model(block, count, sizes.narrow)) for count in (sizes.few, sizes.many))
            few[kind] = short
            each[kind] = _over(_less(long, short), sizes.many - sizes.few, least=long)
        attention = each["Attention"]
        step = _less(few["Attention"], [sizes.few * seconds for seconds in attention])
        blocks = {kind: _less(seconds, attention) if kind in ffns else seconds for kind, seconds in each.items()}
        return tuple(step), {kind: tuple(seconds) for kind, seconds in blocks.items()}

    def _weight_seconds(
        self, weight_format: str, step: Sequence[float], blocks: Mapping[str, Sequence[float]]
    ) -> tuple[float, ...]:
        """Seconds of a weight for each of `ROWS` rows: in decode steps, and in a prompt."""
        sizes = self._sizes
        model, alone = (format_model(weight_format, count, sizes.width, sizes.hidden) for count in (sizes.blocks, 1))
        own = [
            base + sizes.blocks * (mixer + ffn)
            for base, mixer, ffn in zip(step, blocks["Attention"], blocks["Mlp"], strict=True)
        ]
        whole = self._steps(model, runs=sizes.long_runs)
        weights = sum(inner_matrices(footprint.skeleton(alone.spec)).values())
        prompt = median_run(_prompt(alone, ROWS[-1]), sizes.long_runs) / weights
        return (*_over(_less(whole, own), sizes.blocks * weights, least=whole), prompt)

    def _state_seconds(self, kind: str, weights: Sequence[float]) -> tuple[float, ...]:
        """Seconds of a byte of recurrent state that each row reads or writes; more states have some more weights."""
        sizes = self._sizes
        # Hyena's channels are the model's, which makes its matrices large.
        width, inner = (sizes.width, sizes.width) if kind == "Hyena" else (sizes.narrow, sizes.inner)
        light, heavy = (
            probe_model(Block(mixer=MIXERS[kind](inner, d_state)), sizes.few, width) for d_state in D_STATES[kind]
        )
        more = _traffic(heavy, 0, heavy.dtype) - _traffic(light, 0, light.dtype)
        matrices = sum(inner_matrices(heavy).values()) - sum(inner_matrices(light).values())
        whole = self._steps(heavy)
        beside = [
            short + matrices * each for short, each in zip(self._steps(light), weights[: len(STEP_ROWS)], strict=True)
        ]
        return _over(_less(whole, beside), more, least=whole)

    def _kv_seconds(self, kv_dtype: str) -> tuple[float, ...]:
        """Seconds of a byte of keys or values that each row reads."""
        sizes = self._sizes
        model = probe_model(Block(mixer=MIXERS["Attention"](sizes.inner // 2, 0)), sizes.few, sizes.narrow)
        traffic = [_traffic(model, length, model.dtype, kv_dtype) for length in (1, sizes.positions)]
        whole = self._steps(model, sizes.positions, kv_dtype)
        return _over(_less(whole, self._steps(model, 1, kv_dtype)), traffic[1] - traffic[0], least=whole)

    def _steps(
        self, model: Model, length: int = 0, kv_dtype: str | None = None, runs: int | None = None
    ) -> list[float]:
        """Seconds of a decode step of each of `STEP_ROWS` rows; states of as many as the most rows take turns."""
        state = model.new_state(1, kv_dtype)
        slots = slots_of(model, state, STEP_ROWS[-1])
        for slot in range(STEP_ROWS[-1]):
            slots.set_state(slot, synthetic_state(state.sequences[0], length, model.dtype, slot))

        def step(rows: int) -> Callable[[], Any]:
            ids = torch.zeros(rows, dtype=torch.int64)
            turns = [list(range(first, first + rows)) for first in range(0, STEP_ROWS[-1], rows)]
            for chosen in turns:  # a first step takes pages
                slots.step(ids, chosen)
            turn = cycle(turns)
            return lambda: slots.step(ids, next(turn))

        return [median_run(step(rows), runs or self._sizes.runs) for rows in STEP_ROWS]

    def _prompt_cost(self, kind: str) -> PromptCost:
        """Cost of a mixer over a prompt: what is left of two prompts or two mixers without their products."""
        sizes, make = self._sizes, MIXERS[kind]
        inner = sizes.width if kind in ("Attention", "Hyena") else 2 * sizes.width
        if kind in D_STATES:
            pairs = [(make(inner, d_state), sizes.prompts[0]) for d_state in D_STATES[kind]]
        else:
            pairs = [(make(inner, 0), length) for length in sizes.prompts]
        rows = []
        for mixer, length in pairs:
            model = probe_model(Block(mixer=mixer), 1, sizes.width)
            whole = median_run(_prompt(model, length), sizes.long_runs)
            mixing = max(whole - _product_seconds(model, length, sizes.long_runs), _LEAST * whole)
            rows.append((length * sizes.width, mixer.flops(sizes.width, length), mixing))
        return prompt_cost(rows[0], rows[1])


def prompt_cost(light: tuple[float, float, float], heavy: tuple[float, float, float]) -> PromptCost:
    """Cost by two measurements, each tokens times channels, FLOPs and seconds; neither part is less than nothing."""
    (channels, flops, seconds), (more_channels, more_flops, more_seconds) = light, heavy
    determinant = channels * more_flops - more_channels * flops
    channel = (seconds * more_flops - more_seconds * flops) / determinant
    flop = (channels * more_seconds - more_channels * seconds) / determinant
    if channel < 0:
        return PromptCost(0.0, (seconds + more_seconds) / (flops + more_flops))
    if flop < 0:
        return PromptCost((seconds + more_seconds) / (channels + more_channels), 0.0)
    return PromptCost(channel, flop)


def _prompt(model: Model, length: int) -> Callable[[], Any]:
    ids, segments, state = torch.zeros(length, dtype=torch.int64), Segments((length,)), model.new_state(1)
    return lambda: model(ids, segments, state, logits="last")


def _product_seconds(model: Model, length: int, runs: int) -> float:
    """Seconds of all linear layers of a model, alone, for `length` tokens."""
    layers = [module for module in model.blocks.modules() if isinstance(module, Linear)]
    inputs = [torch.randn(length, layer.weight.shape[-1]).to(model.dtype) for layer in layers]
    return sum(median_run(partial(layer, x), runs) for layer, x in zip(layers, inputs, strict=True))


def _traffic(model: Model, length: int, dtype: torch.dtype, kv_dtype: str | None = None) -> int:
    """Bytes of all states that a token of one sequence reads and writes."""
    precision = Precision.of(dtype, kv_dtype)
    return states_traffic(model.spec, length, precision.name, precision.kv)


def _less(whole: Sequence[float], part: Sequence[float]) -> tuple[float, ...]:
    return tuple(max(0.0, long - short) for long, short in zip(whole, part, strict=True))


def _over(seconds: Sequence[float], count: float, *, least: Sequence[float]) -> tuple[float, ...]:
    """Seconds of each of `count`; at least a hundredth of what was measured, since nothing takes no time."""
    return tuple(max(more, _LEAST * whole) / count for more, whole in zip(seconds, least, strict=True))
