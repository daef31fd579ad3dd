"""Training a gated long convolution and attention in turn, beside attention alone: one step, batch 1, bfloat16.

    python -m benchmarks.training_pairs --tokens 2048 8192 16384 --rounds 3
    python -m benchmarks.training_pairs --tokens 32768 65536 --rounds 1 --activation-checkpointing
    python -m benchmarks.training_pairs --small --tokens 2048 8192 --rounds 3

StripedHyena's makers say that training it end to end is more than 30%, 50% and 100% faster at 32k, 64k and 128k tokens
than a transformer with FlashAttention-2 (10%, 20%, 50% at batch 1). Here: two layers at the 7B model's own shape (width
4096, 32 heads, 8 of keys and values, feed-forward 14336), without embedding and head; with --small twelve layers of
width 768, one in four attention, for Hyena, Mamba-2 and parallel heads. Attention is the same on both sides: torch's
flash kernel for the CPU, or braidlm's own with --attention braidlm (and with a window, which torch's does not have).
What it reaches, forwards and backwards, is printed, since a slow baseline would prove nothing. The sides take turns in
one process; a ratio is the transformer's seconds over the hybrid's, minus one. 65,536 tokens fit into 24 GiB with
BRAIDLM_MALLOC=0, which gives freed memory back.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from braidlm.layers import Batch
from braidlm.model.footprint import skeleton
from braidlm.model.model import Model, run_block
from braidlm.ops import Segments, dispatch
from braidlm.ops.attention import native, reference
from braidlm.spec import Attention, Block, Hyena, Mamba2, Mixer, Mlp, ModelSpec, Norm, Parallel, Rope
from braidlm.system.memory import keep_all_freed_memory
from braidlm.train.initial import initialise
from braidlm.train.passes import run_block_checkpointed

from . import report
from .report import Report

KERNELS = {"torch": reference.attention, "braidlm": native.attention}
LONG = 16_384  # tokens, beyond which nothing is run that is not asked for
LEAST = {32_768: 0.10, 65_536: 0.20}  # at batch 1, as published


@dataclass(frozen=True)
class Shape:
    """Sizes of a layer, and which of the layers are attention."""

    width: int
    attention: Attention
    hidden: int
    layers: int
    every: int

    def model(self, mixer: Mixer | None) -> ModelSpec:
        """Attention in the last of every `every` layers, `mixer` (None: attention too) in the others."""
        mixers = [mixer if mixer and (i + 1) % self.every else self.attention for i in range(self.layers)]
        blocks = tuple(Block(mixer=m, ffn=Mlp(hidden=self.hidden)) for m in mixers)
        return ModelSpec(vocab=8, width=self.width, blocks=blocks, norm=Norm(eps=1e-5))


def rope(size: int) -> Rope:
    return Rope(base=10_000.0, dims=size)


LARGE = Shape(4096, Attention(heads=32, kv_heads=8, head_dim=128, rope=rope(128)), 14336, layers=2, every=2)
SMALL = Shape(768, Attention(heads=12, kv_heads=4, head_dim=64, rope=rope(64)), 2048, layers=12, every=4)
MAMBA2 = Mamba2(heads=24, head_dim=64, d_state=128)
PARALLEL = Parallel(
    attention=replace(SMALL.attention, heads=24, window=1024), ssm=Mamba2(heads=24, head_dim=64, d_state=64)
)


@dataclass(frozen=True)
class Step:
    """Forwards and backwards through all layers; weights, and what flows between them, in bfloat16."""

    spec: ModelSpec
    activation_checkpointing: bool

    def __call__(self, tokens: int) -> float:
        """Seconds. The weights are made anew: both sides at once would take the memory that long texts need."""
        model, segments = self._model(), Segments((tokens,))
        run = run_block_checkpointed if self.activation_checkpointing else run_block
        x_TD = torch.randn(tokens, model.spec.width, requires_grad=True)
        begun = time.perf_counter()
        state, batch, y_TD = model.training_state(1), Batch(segments, (0,), model.device), x_TD
        for index, block in enumerate(model.blocks):
            y_TD = run(block, y_TD, model.layer_state(index, state, []), batch, torch.bfloat16)[0]
        y_TD.backward(torch.ones_like(y_TD))
        return time.perf_counter() - begun

    def _model(self) -> Model:
        model: Model = skeleton(self.spec)
        initialise(model, 0)
        precise = set(model.fp32_parameter_names())
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data if name in precise else parameter.data.bfloat16()
            parameter.requires_grad_()
        return model


def attended(whole: Callable[..., Tensor], *given: Any, visible: tuple[int | None, int], **more: Any) -> Tensor:
    """Attention to all tokens by `whole`."""
    kernel = whole if visible[0] is None else native.attention
    return kernel(*given, visible=visible, **more)


def attention_seconds(attention: Attention, tokens: int, kernel: Callable[..., Tensor]) -> tuple[float, float]:
    """Of causal attention at this shape, forwards and backwards."""
    sizes = ((heads, attention.head_dim) for heads in (attention.heads, attention.kv_heads, attention.kv_heads))
    q, k, v = (torch.randn(tokens, *size, dtype=torch.bfloat16, requires_grad=True) for size in sizes)
    segments, scale = Segments((tokens,)), attention.head_dim**-0.5
    begun = time.perf_counter()
    y = kernel(q, k, v, (None,), (0,), segments, scale=scale, visible=(None, 0))
    forwards = time.perf_counter()
    y.backward(torch.ones_like(y))
    return forwards - begun, time.perf_counter() - forwards


def attention_rates(attention: Attention, tokens: int, kernel: Callable[..., Tensor]) -> str:
    """Operations a second."""
    flops = 2 * attention.heads * attention.head_dim * tokens**2  # two products, of which causality leaves half
    forwards, back = attention_seconds(attention, tokens, kernel)
    return f"{flops / forwards / 1e9:.0f} GFLOP/s, back {2.5 * flops / back / 1e9:.0f}"


def measure(given: argparse.Namespace, report: Report) -> None:
    """All lengths, the sides in turn."""
    torch.set_num_threads(given.threads)
    keep_all_freed_memory()  # as the trainer does; for both sides
    dispatch.register("attention", "native", partial(attended, KERNELS[given.attention]))
    shape = SMALL if given.small else LARGE
    hyena = Hyena(d_state=8, filters=shape.width)
    mixers: dict[str, Mixer] = (
        {"Hyena": hyena, "Mamba-2": MAMBA2, "parallel heads": PARALLEL} if given.small else {"Hyena": hyena}
    )
    rows = []
    for tokens in given.tokens:
        compared = KERNELS if tokens <= LONG else {given.attention: KERNELS[given.attention]}
        rates = {name: attention_rates(shape.attention, tokens, kernel) for name, kernel in compared.items()}
        report.say(f"{tokens} tokens: attention by " + "; by ".join(" at ".join(rate) for rate in rates.items()))
        plain = Step(shape.model(None), given.activation_checkpointing)
        for name, mixer in mixers.items():
            hybrid = Step(shape.model(mixer), given.activation_checkpointing)
            if tokens <= LONG:
                hybrid(tokens), plain(tokens)  # warms up
            pairs = [(hybrid(tokens), plain(tokens)) for _ in range(given.rounds)]
            faster = [baseline_seconds / seconds - 1 for seconds, baseline_seconds in pairs]
            seconds, baseline_seconds = (statistics.median(side) for side in zip(*pairs, strict=True))
            spread = f"{statistics.median(faster):+.0%} ({min(faster):+.0%} to {max(faster):+.0%})"
            rows.append([name, tokens, f"{seconds:.1f} s", f"{baseline_seconds:.1f} s", spread])
            report.found.setdefault("pairs", []).append({"mixer": name, "tokens": tokens, "seconds": pairs})
            least = LEAST.get(tokens)
            if least is not None:
                median = statistics.median(faster)
                report.check(f"{name}, {tokens} tokens: {median:+.0%} (at least {least:+.0%})", median >= least)
    report.table(["layers", "tokens", "with attention", "attention alone", "faster"], rows)


if __name__ == "__main__":
    parser = report.parser(__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument(
        "--activation-checkpointing", action="store_true", help="blocks run again for their gradients, on both sides"
    )
    parser.add_argument("--attention", choices=list(KERNELS), default="torch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    report.run(measure, parser)
