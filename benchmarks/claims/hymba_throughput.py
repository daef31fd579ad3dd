"""Hymba's throughput beside Llama-3.2-3B's: 664 and 191 tokens a second, 3.49 times, at 8k tokens."""

import argparse

from braidlm.families.presets import preset

from . import equal_memory
from .claim import Claim, Found, Row
from .decoding import Side
from .progress import Progress


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the measurement; 128 sequences are the most that the paper takes."""
    equal_memory.add_options(parser, context=8000, memory="8GiB", most=128)


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Measures both sides in turns."""
    sides = [Side("Hymba-1.5B", preset("hymba-1.5b").spec), Side("Llama-3.2-3B", preset("llama-3.2-3b").spec)]
    return equal_memory.find(sides, given, progress)


def rows(found: Found) -> list[Row]:
    """The ratio at equal memory."""
    why = f"published on an A100 in PyTorch; here {equal_memory.gain(found)}"
    ours = f"{equal_memory.ratio(found)}: {equal_memory.speeds(found)}"
    return [Row("664 and 191 tok/s, 3.49x", ours, equal_memory.conditions(found), why)]


CLAIM = Claim(
    name="hymba-throughput",
    title="Hymba-1.5B: 3.49 times the throughput of Llama-3.2-3B",
    source="Dong et al. 2024, [arXiv:2411.13676](https://arxiv.org/abs/2411.13676), abstract and Table 2; 8k tokens, "
    "batch 128 on an A100, halved where memory does not suffice",
    find=find,
    rows=rows,
    tables=equal_memory.tables,
    add_options=add_options,
    timed=True,
)
