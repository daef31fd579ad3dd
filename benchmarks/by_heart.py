"""A small model of every family learns a page by heart: with the right gradients nothing is left to guess.

    python -m benchmarks.by_heart

The page is the first bytes of the README, a token a byte, the same pack every step, by the trainer as it is. What is
told is the loss of the last step in bits a byte, without the first byte, which nothing foretells. It must fall under
0.1 for every family.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

import torch

from braidlm.model.footprint import skeleton
from braidlm.spec import Attention, Block, Hyena, Mamba, Mamba2, Mixer, Mlp, ModelSpec, Moe, Norm, Parallel, Rope
from braidlm.train.config import Config, Data, Loss, Optimizer, Run, Schedule, Source, Stage
from braidlm.train.data.pack import Pack
from braidlm.train.initial import initialise
from braidlm.train.loop import Hooks, Trainer

from . import report
from .report import Report

MOST = 0.1  # bits a byte
PAGE = Path(__file__).parent.parent / "README.md"
WIDTH = 128

ATTENTION = Attention(heads=4, kv_heads=2, head_dim=32, rope=Rope(base=10_000.0, dims=32))
MAMBA = Mamba(inner=2 * WIDTH, d_state=16, dt_rank=8)
MAMBA2 = Mamba2(heads=8, head_dim=32, d_state=32)
HYENA = Hyena(d_state=8, filters=WIDTH)
MLP = Mlp(hidden=3 * WIDTH)
HEADS = Parallel(
    attention=Attention(
        heads=4, kv_heads=2, head_dim=32, value_dim=64, rope=ATTENTION.rope, window=256, sink_tokens=16
    ),
    ssm=Mamba(inner=2 * WIDTH, d_state=16, dt_rank=8, inner_norms=True),
)


def model(*blocks: Block, meta_tokens: int = 0) -> ModelSpec:
    return ModelSpec(vocab=256, width=WIDTH, blocks=blocks, norm=Norm(eps=1e-5), meta_tokens=meta_tokens)


def alternating(mixer: Mixer, ffn: Mlp | Moe) -> ModelSpec:
    """Two of `mixer`, then attention, then one more."""
    return model(*(Block(mixer=m, ffn=ffn) for m in (mixer, mixer, ATTENTION, mixer)))


FAMILIES = {
    "mamba": model(*[Block(mixer=MAMBA)] * 4),
    "mamba2": model(*[Block(mixer=MAMBA2)] * 4),
    "llama": model(*[Block(mixer=ATTENTION, ffn=MLP)] * 4),
    "stripedhyena": alternating(HYENA, MLP),
    "bamba": alternating(MAMBA2, MLP),
    "granitemoehybrid": alternating(MAMBA2, Moe(experts=4, top_k=2, hidden=WIDTH, shared=Mlp(hidden=WIDTH))),
    "hymba": model(*[Block(mixer=HEADS, ffn=MLP)] * 4, meta_tokens=16),
}


class Page:
    """Packing in which each sequence is the same page."""

    def __init__(self, text: bytes) -> None:
        ids = torch.tensor(list(text))
        self._pack = Pack(ids[:-1], ids[1:], (len(ids) - 1,), False, (0,))
        self.end = 0

    def stage(self, begin: int, batch_size: int, seq_len: int, steps: int) -> "Page":
        return self

    def pack(self, step: int, index: int) -> Pack:
        return self._pack


def learned(spec: ModelSpec, text: bytes, given: argparse.Namespace, place: str) -> list[float]:
    """Bits a byte of every step."""
    found: list[float] = []
    config = Config(
        model=Source(preset="none"),
        data=Data(shards="none"),
        stages=(Stage(steps=given.steps, batch_size=1, seq_len=len(text) - 1),),
        optimizer=Optimizer(lr=given.lr, weight_decay=0.0),
        schedule=Schedule(warmup=given.steps // 20),
        loss=Loss(),
        run=Run(out=place, dtype="float32", checkpoint=0, evaluate=0, tensorboard=False),
    )
    network = skeleton(spec)
    initialise(network, given.seed)
    hooks = Hooks(stepped=lambda step: found.append(step.loss / math.log(2)))
    Trainer(config, network, Page(text), []).run(hooks)
    return found


def measure(given: argparse.Namespace, report: Report) -> None:
    """One family after the other."""
    text, rows = PAGE.read_bytes()[: given.bytes], []
    for name in given.families:
        with tempfile.TemporaryDirectory(prefix="braidlm-page-") as place:
            begun = time.perf_counter()
            bits = learned(FAMILIES[name], text, given, place)
        seconds = time.perf_counter() - begun
        report.found[name] = bits
        under = next((number for number, found in enumerate(bits, 1) if found < MOST), None)
        rows.append([name, f"{bits[0]:.2f}", f"{bits[-1]:.4f}", under or "never", f"{seconds:.0f} s"])
        report.check(f"{name}: {bits[-1]:.4f} bits a byte (under {MOST})", bits[-1] < MOST)
    report.table(["family", "first step", "last step", f"step under {MOST}", "time"], rows)


if __name__ == "__main__":
    parser = report.parser(__doc__)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--bytes", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)
