"""Mamba's generation beside a transformer of its size: 4 to 5 times the throughput, since many more sequences fit."""

import argparse

from braidlm.families.presets import preset
from braidlm.spec import Attention, Block, Mlp, ModelSpec, Norm, Rope

from . import equal_memory
from .claim import Claim, Found, Row
from .decoding import Side
from .progress import Progress

PROMPT, ANSWER = 2048, 128


def transformer() -> ModelSpec:
    """A transformer of 1.3 billion parameters: 24 layers of width 2,048, every head with keys and values of its own."""
    attention = Attention(heads=16, kv_heads=16, head_dim=128, rope=Rope(base=10000.0, dims=128))
    blocks = (Block(mixer=attention, ffn=Mlp(hidden=5504)),) * 24
    return ModelSpec(vocab=50280, width=2048, blocks=blocks, norm=Norm(eps=1e-5), tied=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the measurement; 128 sequences are the most of the published figure."""
    equal_memory.add_options(parser, context=PROMPT + ANSWER // 2, memory="6GiB", most=128)


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Measures both sides in turns."""
    sides = [Side("Mamba-1.4B", preset("mamba-1.4b").spec), Side("Transformer-1.3B", transformer())]
    return equal_memory.find(sides, given, progress)


def rows(found: Found) -> list[Row]:
    """The ratio at equal memory."""
    why = f"published on an A100; here {equal_memory.gain(found)}"
    ours = f"{equal_memory.ratio(found)}: {equal_memory.speeds(found)}"
    return [Row("4-5x higher inference throughput", ours, equal_memory.conditions(found), why)]


CLAIM = Claim(
    name="mamba-throughput",
    title="Mamba: 4 to 5 times the generation throughput of a transformer at equal memory",
    source="Gu and Dao 2023, [arXiv:2312.00752](https://arxiv.org/abs/2312.00752), section 4.5 and Figure 8 (right): "
    "1.4B beside 1.3B, prompts of 2,048 tokens, batches from 1 to 128 on an A100 of 80 GB",
    find=find,
    rows=rows,
    tables=equal_memory.tables,
    add_options=add_options,
    timed=True,
)
