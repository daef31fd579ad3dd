"""Bamba's generation beside Llama 3.1 8B's by the length of the answer: up to 2 to 2.5 times the throughput.

A step's time is measured at several contexts; between two of them it grows in a straight line, as the keys and values
that it reads do. The time of an answer is the sum over its tokens.
"""

import argparse
import statistics
from collections.abc import Sequence

from braidlm.bench.table import spread
from braidlm.errors import InputError
from braidlm.families.presets import preset
from braidlm.model import footprint

from . import decoding
from .claim import Claim, Found, Row, Table
from .decoding import Side
from .numbers import counted, positive
from .progress import Progress

PROMPT = 1024
_OUTPUTS = (2048, 4096, 8192, 16384, 32768, 65536)
_SIDES = (Side("Bamba-9B", preset("bamba-9b").spec), Side("Llama-3.1-8B", preset("llama-3.1-8b").spec))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the measurement."""
    decoding.add_options(parser, weights="int4", steps=4, rounds=3)
    parser.add_argument(
        "--outputs", type=positive, nargs="+", default=list(_OUTPUTS), help="lengths of answers (default: 2K to 64K)"
    )
    parser.add_argument("--rows", type=positive, nargs="+", default=[1, 4], help="numbers of sequences (default: 1 4)")
    parser.add_argument(
        "--most-bytes",
        type=float,
        default=10e9,
        help="bytes of states that a piece may take (default: 1e10)",
    )


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Seconds of a step of each side, by number of sequences and context, in turns."""
    specs = decoding.specs_of(_SIDES, given)
    model_of = decoding.models_of(specs, given)
    contexts = [PROMPT, *(PROMPT + length for length in sorted(given.outputs))]

    def fits(rows: int, context: int) -> bool:
        most = max(spec.state_bytes(context, dtype="bfloat16", kv_dtype=given.kv_dtype) for spec in specs.values())
        return rows * most <= given.most_bytes

    pieces = [(rows, context) for rows in given.rows for context in contexts if fits(rows, context)]
    if not pieces:
        raise InputError(f"--most-bytes {given.most_bytes:g} holds no sequence of {PROMPT} tokens; give more")
    seconds: dict[str, dict[str, dict[str, list[float]]]] = {}
    for rows, context in pieces:

        def step(name: str, number: int, rows: int = rows, context: int = context) -> float:
            times = (context, rows, given.steps, given.kv_dtype)
            return progress.piece(
                f"{counted(rows, 'sequence')} after {context} tokens, round {number + 1}, {name}, seconds",
                lambda: decoding.step_seconds(model_of(name), *times),
            )

        seconds.setdefault(str(rows), {})[str(context)] = decoding.in_turns(list(specs), given.rounds, step)
    return {"settings": decoding.settings_text(given), "seconds": seconds}


def seconds_of_answer(contexts: Sequence[int], seconds: Sequence[float], tokens: int) -> float:
    """Seconds of an answer of `tokens` tokens after the first context, from a step's seconds at each context."""
    begin, total = contexts[0], 0.0
    end = begin + tokens
    for (left, at_left), (right, at_right) in zip(
        zip(contexts, seconds, strict=True), zip(contexts[1:], seconds[1:], strict=True), strict=False
    ):
        if left >= end:
            break
        stop = min(end, right)
        at_stop = at_left + (at_right - at_left) * (stop - left) / (right - left)
        total += (stop - left) * (at_left + at_stop) / 2
    if end > contexts[-1]:
        raise InputError(f"a step was measured up to {contexts[-1]} tokens, which is before the end at {end}")
    return total


def ratios(found: Found, rows: str) -> dict[int, list[float]]:
    """Throughput of Bamba over Llama's by length of the answer, round by round."""
    by_context = found["seconds"][rows]
    contexts = sorted(map(int, by_context))
    names = list(by_context[str(contexts[0])])
    rounds = range(len(by_context[str(contexts[0])][names[0]]))
    made: dict[int, list[float]] = {}
    for end in contexts[1:]:
        tokens = end - contexts[0]
        made[tokens] = []
        for number in rounds:
            bamba, llama = (
                seconds_of_answer(contexts, [by_context[str(n)][name][number] for n in contexts], tokens)
                for name in names
            )
            made[tokens].append(llama / bamba)
    return made


def rows(found: Found) -> list[Row]:
    """The ratios of the shortest and the longest answer, for each number of sequences."""
    bamba, llama = (footprint.size(side.spec).total for side in _SIDES)
    made = []
    for number in found["seconds"]:
        by_length = ratios(found, number)
        if not by_length:
            continue
        ours = "; ".join(f"{tokens:,} tokens {spread(by_length[tokens])}" for tokens in _ends(list(by_length)))
        conditions = (
            f"{counted(int(number), 'sequence')}, prompts of {PROMPT:,} tokens (not timed); {found['settings']}"
        )
        why = (
            "published in vLLM on an H100 at several batch sizes, unquantized; here few sequences share a step, which "
            f"reads the weights too, {bamba / llama:.2f} times as many of Bamba's as of Llama's"
        )
        made.append(Row("up to 2-2.5x the throughput, growing with output and batch", ours, conditions, why))
    return made


def _ends(lengths: list[int]) -> list[int]:
    return sorted({lengths[0], lengths[-1]})


def tables(found: Found) -> list[Table]:
    """Ratio by length, and the steps that it is made of."""
    lines, steps = [], []
    for number, by_context in found["seconds"].items():
        lines += [[number, f"{tokens:,}", spread(all_of)] for tokens, all_of in ratios(found, number).items()]
        for context, by_name in by_context.items():
            times = [f"{1000 * statistics.median(seconds):.1f}" for seconds in by_name.values()]
            steps.append([number, f"{int(context):,}", *times])
    names = next(iter(next(iter(found["seconds"].values())).values()))
    return [
        Table("Throughput over Llama's", ["sequences", "tokens of an answer", "ratio"], lines),
        Table("Steps", ["sequences", "context", *(f"{name}, ms" for name in names)], steps),
    ]


CLAIM = Claim(
    name="bamba-output-length",
    title="Bamba-9B: up to 2 to 2.5 times the throughput of Llama 3.1 8B, by the length of the output",
    source="[Bamba, 18 December 2024](https://huggingface.co/blog/bamba), on inference efficiency, Figure 1: "
    "inputs of 1K tokens, outputs from 2K to 64K, several batch sizes, vLLM on an H100 of 80 GB",
    find=find,
    rows=rows,
    tables=tables,
    add_options=add_options,
    timed=True,
)
