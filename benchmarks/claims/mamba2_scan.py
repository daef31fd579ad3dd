"""Mamba-2's scan beside Mamba's by the size of the state and by length, and beside attention."""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from braidlm import ops
from braidlm.bench.table import spread
from braidlm.ops import Segments
from braidlm.ops.attention import reference

from . import decoding
from .claim import Claim, Found, Row, Table
from .numbers import counted, positive
from .progress import Progress

_HEAD = 64  # channels of a head of Mamba-2
_USUAL_STATE, _USUAL_LENGTH = 64, 4096
_SSD, _SCAN, _ATTENTION = "SSD", "Mamba's scan", "attention"
_SCANS, _SIDES = (_SSD, _SCAN), (_SSD, _SCAN, _ATTENTION)
_TRIAL = 1024  # tokens, on which the kernel of attention is chosen
_TINY = {"width": 128, "states": [16, 64], "lengths": [64, 128], "rounds": 2}
_KERNELS: dict[str, tuple[Callable[..., Tensor], torch.dtype]] = {
    "braidlm's kernel in bfloat16": (ops.attention, torch.bfloat16),
    "torch's flash kernel in bfloat16": (reference.attention, torch.bfloat16),
    "torch's flash kernel in float32": (reference.attention, torch.float32),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the measurement."""
    parser.add_argument("--width", type=positive, default=2048, help="channels (default: 2048)")
    parser.add_argument("--states", type=positive, nargs="+", default=[16, 32, 64, 128, 256], help="sizes of the state")
    parser.add_argument("--lengths", type=positive, nargs="+", default=[1024, 2048, 4096, 8192], help="tokens")
    parser.add_argument("--rounds", type=positive, default=5, help="rounds of turns (default: 5)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="number of threads")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that the command works")


def _ssd(tokens: int, width: int, states: int) -> Callable[[], object]:
    heads = width // _HEAD
    x = torch.randn(tokens, heads, _HEAD, dtype=torch.bfloat16)
    b, c = (torch.randn(tokens, 1, states, dtype=torch.bfloat16) for _ in range(2))
    dt, a, d = torch.rand(tokens, heads), -torch.rand(heads) - 0.5, torch.ones(heads)
    state, segments = torch.zeros(1, heads, _HEAD, states), Segments((tokens,))
    return lambda: ops.ssd(x, dt, a, b, c, d, state, segments)


def _scan(tokens: int, width: int, states: int) -> Callable[[], object]:
    x = torch.randn(tokens, width, dtype=torch.bfloat16)
    b, c = (torch.randn(tokens, states, dtype=torch.bfloat16) for _ in range(2))
    dt, a, d = torch.rand(tokens, width), -torch.rand(width, states) - 0.5, torch.ones(width)
    state, segments = torch.zeros(1, width, states), Segments((tokens,))
    return lambda: ops.selective_scan(x, dt, a, b, c, d, state, segments)


def _attention(tokens: int, width: int, kernel: str) -> Callable[[], object]:
    """Causal attention of as many channels by one of `_KERNELS`."""
    heads, (attention, dtype) = width // _HEAD, _KERNELS[kernel]
    q, k, v = (torch.randn(tokens, heads, _HEAD, dtype=dtype) for _ in range(3))
    segments = Segments((tokens,))
    return lambda: attention(q, k, v, (None,), (0,), segments, scale=_HEAD**-0.5, visible=(None, 0))


def _fastest_kernel(width: int) -> str:
    """Name of the kernel that is fastest here: a slow baseline would prove nothing."""
    runs = {name: _attention(_TRIAL, width, name) for name in _KERNELS}
    for run in runs.values():
        _seconds(run)  # warms up
    return min(runs, key=lambda name: _seconds(runs[name]))


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    with torch.no_grad():
        run()
    return time.perf_counter() - begun


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Seconds of each side at each length with the usual state, and at the usual length with each state, in turns."""
    torch.set_num_threads(given.threads)
    if given.tiny:
        given = argparse.Namespace(**vars(given) | _TINY)
    usual_state = _USUAL_STATE if _USUAL_STATE in given.states else max(given.states)
    usual_length = _USUAL_LENGTH if _USUAL_LENGTH in given.lengths else max(given.lengths)
    kernel = progress.piece("attention by", lambda: _fastest_kernel(given.width))

    def make(name: str, tokens: int, states: int) -> Callable[[], object]:
        if name == _ATTENTION:
            return _attention(tokens, given.width, kernel)
        return (_ssd if name == _SSD else _scan)(tokens, given.width, states)

    def seconds(tokens: int, states: int, sides: Sequence[str]) -> dict[str, list[float]]:
        runs: dict[str, Callable[[], object]] = {}

        def piece(name: str, number: int) -> float:
            label = f"{tokens} tokens, state {states}, round {number + 1}, {name}, seconds"
            if name not in runs and not progress.has(label):
                runs[name] = make(name, tokens, states)
                _seconds(runs[name])  # warms up
            return progress.piece(label, lambda: _seconds(runs[name]))

        return decoding.in_turns(sides, given.rounds, piece)

    return {
        "width": given.width,
        "rounds": given.rounds,
        "kernel": kernel,
        "usual_state": usual_state,
        "usual_length": usual_length,
        "by_length": {str(tokens): seconds(tokens, usual_state, _SIDES) for tokens in given.lengths},
        "by_state": {str(states): seconds(usual_length, states, _SCANS) for states in given.states},
    }


def _over(item: dict[str, list[float]], slow: str) -> list[float]:
    """Seconds of another side over SSD's, round by round."""
    return [a / b for a, b in zip(item[slow], item[_SSD], strict=True)]


def _growth(found: Found, side: str) -> str:
    """How much longer the largest state takes than the smallest."""
    by_state = list(found["by_state"].values())
    first, last = by_state[0], by_state[-1]
    return spread([a / b for a, b in zip(last[side], first[side], strict=True)])


def rows(found: Found) -> list[Row]:
    """The three sentences of the figure's caption."""
    how = f"native kernels on a CPU, {counted(found['rounds'], 'round')}"
    conditions = f"{found['width']:,} channels, bfloat16, one sequence, forwards; {how}"
    by_length, states = found["by_length"], list(found["by_state"])
    size = found["usual_state"]
    scans = "; ".join(f"{int(n):,} tokens {spread(_over(item, _SCAN))}" for n, item in by_length.items())
    attention = "; ".join(f"{int(n):,} tokens {spread(_over(item, _ATTENTION))}" for n, item in by_length.items())
    growth = f"from {states[0]} to {states[-1]}: SSD {_growth(found, _SSD)}, scan {_growth(found, _SCAN)}"
    at = f"; {found['usual_length']:,} tokens"
    return [
        Row(f"2-8x faster than Mamba's fused scan, N = {_USUAL_STATE}", scans, f"{conditions}; N = {size}", _WHY),
        Row("larger states slow the scan down linearly, SSD not much", growth, conditions + at, _WHY),
        Row(
            "faster than FlashAttention-2 from 2K tokens on",
            attention,
            f"{conditions}; N = {size}; attention of as many channels by the fastest kernel here, {found['kernel']}",
            _WHY_ATTENTION,
        ),
    ]


_WHY = "published on an A100, whose matrix units SSD uses and the scan does not"
_WHY_ATTENTION = (
    "published on an A100, whose matrix units do attention too; on a CPU the number of operations decides, and "
    "attention has more"
)


def tables(found: Found) -> list[Table]:
    """Times by size of the state."""
    lines = [
        [states, *(f"{1000 * statistics.median(item[side]):.1f}" for side in _SCANS)]
        for states, item in found["by_state"].items()
    ]
    title = f"{found['usual_length']:,} tokens by size of the state"
    return [Table(title, ["N", *(f"{side}, ms" for side in _SCANS)], lines)]


CLAIM = Claim(
    name="mamba2-scan",
    title="Mamba-2: a scan 2 to 8 times faster, which large states hardly slow down",
    source="Dao and Gu 2024, [arXiv:2405.21060](https://arxiv.org/abs/2405.21060), section 9.3 and Figure 10: A100 of "
    "80 GB; left by sequence length with N = 64, right by N at 4K tokens",
    find=find,
    rows=rows,
    tables=tables,
    add_options=add_options,
    timed=True,
)
