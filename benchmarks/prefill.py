"""Prefill speed of every family: braidlm and transformers on the same weights, in turns, in one run.

    python -m benchmarks.prefill --length 512 --rounds 5

Prints a table and, last, one JSON object. A ratio above 1 means that braidlm is faster; each is
the median of the rounds' ratios with the smallest and the largest. The floor is the time that
the matrix products take at the rate measured here, plus the mixers' own operations at the
float32 rate; "of floor" is the part of braidlm's time that it accounts for.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import braidlm
from benchmarks.contestant import Contestant
from braidlm import describe
from braidlm.presets import preset
from braidlm.spec import ModelSpec


def _cut(name: str, blocks: slice, **changes: Any) -> Callable[[], ModelSpec]:
    """Some blocks of a published shape, where the whole is too large for a comparison."""
    return lambda: replace((spec := preset(name).spec), blocks=spec.blocks[blocks], **changes)


# name: (description, whether transformers has the family)
MODELS: dict[str, tuple[Callable[[], ModelSpec], bool]] = {
    "mamba-130m": (_cut("mamba-130m", slice(None)), True),
    "mamba2-130m": (_cut("mamba2-130m", slice(None)), True),
    "granite-4.0-h-350m": (_cut("granite-4.0-h-350m", slice(None)), True),
    "granite-4.0-tiny, 4 of 40 blocks": (_cut("granite-4.0-tiny", slice(3, 7)), True),
    "bamba-9b, 3 of 32 blocks": (_cut("bamba-9b", slice(8, 11)), True),
    "smollm2-135m": (_cut("smollm2-135m", slice(None)), True),
    "mistral-7b, 3 of 32 blocks": (_cut("mistral-7b", slice(0, 3)), True),
    "hymba-1.5b, 12 of 32 blocks": (_cut("hymba-1.5b", slice(0, 12)), False),
    "stripedhyena-7b, 4 of 32 blocks": (_cut("stripedhyena-7b", slice(0, 4)), False),
}


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product in `dtype`: the best of several."""
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    best = 0.0
    for _ in range(8):
        begun = time.perf_counter()
        torch.nn.functional.linear(a, b)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - begun))
    return best


def floor(spec: ModelSpec, length: int, products: float, float32: float) -> float:
    """Seconds that the arithmetic of a prompt takes at the measured rates; the head runs for one token."""
    size = describe.size(spec)
    outer = size.embedding * (1 if spec.tied else 2)
    head = size.embedding
    return 2 * ((size.active - outer) * length + head) / products + describe.mixer_flops(spec, length) / float32


def compare(spec: ModelSpec, peer: bool, length: int, dtype: str, rounds: int) -> dict[str, list[float]]:
    """Seconds a round of each side, after one round that does not count."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "model"
        braidlm.build(spec, dtype=dtype).save(directory)
        sides = {name: Contestant(name, directory, dtype) for name in ["braidlm", *(["transformers"] if peer else [])]}
        try:
            found: dict[str, list[float]] = {name: [] for name in sides}
            for turn in range(rounds + 1):
                for name, side in sides.items():
                    seconds = side.prefill(length)
                    if turn:
                        found[name].append(seconds)
            return found
        finally:
            for side in sides.values():
                side.close()


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--only", default="", help="part of a model's name")
    given = parser.parse_args()
    products, float32 = matrix_rate(getattr(torch, given.dtype)), matrix_rate(torch.float32)
    print(
        f"{given.dtype}: {products / 1e9:.0f} GFLOP/s, float32 {float32 / 1e9:.0f}; prompt of {given.length} tokens\n"
    )
    print(
        "| model | braidlm tok/s | transformers tok/s | ratio (min-max) | of floor |\n| --- | --- | --- | --- | --- |"
    )
    results = {}
    for name, (describe_model, peer) in MODELS.items():
        if given.only not in name:
            continue
        spec = describe_model()
        seconds = compare(spec, peer, given.length, given.dtype, given.rounds)
        ours, theirs = seconds["braidlm"], seconds.get("transformers", [])
        least = floor(spec, given.length, products, float32)
        speed = {side: given.length / statistics.median(times) for side, times in seconds.items()}
        ratios = [b / a for a, b in zip(ours, theirs, strict=False)]
        part = least / statistics.median(ours)
        other = f"{speed['transformers']:.0f}" if theirs else "has it not"
        print(
            f"| {name} | {speed['braidlm']:.0f} | {other} | {_spread(ratios) if ratios else ''} | {part:.0%} |",
            flush=True,
        )
        results[name] = {"tokens_per_second": speed, "ratios": ratios, "of_floor": part, "seconds": seconds}
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    rates = {given.dtype: products, "float32": float32}
    print(json.dumps({"length": given.length, "dtype": given.dtype, **machine, "flops": rates, "models": results}))


if __name__ == "__main__":
    main()
