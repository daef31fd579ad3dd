"""Throughput of generation at equal memory: each side decodes as many sequences as fit beside its weights."""

import argparse
import statistics
from collections.abc import Sequence

from braidlm.bench.table import spread
from braidlm.errors import InputError
from braidlm.spec import ModelSpec
from braidlm.system.units import bytes_of

from . import decoding
from .claim import Found, Table
from .decoding import Side
from .numbers import counted, positive
from .progress import Progress
from .random_models import weight_bytes


def add_options(parser: argparse.ArgumentParser, *, context: int, memory: str, most: int) -> None:
    """Adds the options of a comparison at equal memory."""
    decoding.add_options(parser, weights="int4", steps=4, rounds=3)
    parser.add_argument("--context", type=positive, default=context, help=f"tokens of a sequence (default: {context})")
    parser.add_argument("--memory", default=memory, help=f"memory of each side (default: {memory})")
    parser.add_argument("--most", type=positive, default=most, help=f"maximum number of sequences (default: {most})")


def rows_that_fit(spec: ModelSpec, given: argparse.Namespace) -> int:
    """Number of sequences that fit beside the weights; `InputError` if none does."""
    room = bytes_of(given.memory) - weight_bytes(spec, given.weights)
    one = spec.state_bytes(given.context + given.steps + 1, dtype="bfloat16", kv_dtype=given.kv_dtype)
    if room < one:
        raise InputError(f"--memory {given.memory} holds no sequence of {given.context} tokens; give more")
    return min(given.most, room // one)


def find(sides: Sequence[Side], given: argparse.Namespace, progress: Progress) -> Found:
    """Tokens a second of each side by number of sequences, in turns: powers of four, and as many as fit."""
    specs = decoding.specs_of(sides, given)
    fits = {name: rows_that_fit(spec, given) for name, spec in specs.items()}
    model_of = decoding.models_of(specs, given)
    pieces = [(name, rows) for name, most in fits.items() for rows in _numbers(most)]

    def rate(piece: str, number: int) -> float:
        name, rows = piece.split("|")[0], int(piece.split("|")[1])
        times = (given.context, rows, given.steps, given.kv_dtype)
        return progress.piece(
            f"round {number + 1}, {name}, {counted(rows, 'sequence')}, tokens/s",
            lambda: rows / decoding.step_seconds(model_of(name), *times),
        )

    rates = decoding.in_turns([f"{name}|{rows}" for name, rows in pieces], given.rounds, rate)
    return {
        "settings": decoding.settings_text(given),
        "context": given.context,
        "memory": given.memory,
        "fits": fits,
        "weight_bytes": {name: weight_bytes(spec, given.weights) for name, spec in specs.items()},
        "rates": {name: {str(n): rates[f"{name}|{n}"] for other, n in pieces if other == name} for name in specs},
    }


def _numbers(most: int) -> list[int]:
    """Powers of four below `most`, and it."""
    return sorted({4**power for power in range(8) if 4**power < most} | {most})


def best(found: Found) -> dict[str, list[float]]:
    """Tokens a second of each side, round by round, with the number of sequences that is fastest."""
    return {name: max(rates.values(), key=statistics.median) for name, rates in found["rates"].items()}


def ratio(found: Found) -> str:
    """The first side's throughput over the second's, round by round, each at its best."""
    one, other = best(found).values()
    return spread([fast / slow for fast, slow in zip(one, other, strict=True)])


def gain(found: Found) -> str:
    """What many sequences gain over one, for the page: as many times more where memory alone bounds a step."""
    said = []
    for name, rates in found["rates"].items():
        most = list(rates)[-1]
        times = statistics.median(rates[most]) / statistics.median(rates["1"])
        if most != "1":
            said.append(f"{most} sequences of {name} have {times:.1f} times the throughput of one")
    return "; ".join(said)


def speeds(found: Found) -> str:
    """Throughput of both sides, for the page."""
    return " and ".join(f"{statistics.median(rates):.1f}" for rates in best(found).values()) + " tok/s"


def conditions(found: Found) -> str:
    """Conditions of the measurement, for the page."""
    fits = ", ".join(f"{most} of {name}" for name, most in found["fits"].items())
    return (
        f"{found['context']:,} tokens, {found['memory']} for weights and states of each side: {fits}; "
        f"each side with the number of sequences that is fastest; {found['settings']}"
    )


def tables(found: Found) -> list[Table]:
    """Throughput by number of sequences."""
    lines = [
        [name, rows, f"{statistics.median(rates):.1f} ({min(rates):.1f}-{max(rates):.1f})"]
        for name, by_rows in found["rates"].items()
        for rows, rates in by_rows.items()
    ]
    return [Table("By number of sequences", ["model", "sequences", "tok/s"], lines)]
