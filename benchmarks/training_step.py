"""A training step's time beside its floor and, where transformers has the family, beside transformers.

    python -m benchmarks.training_step mamba-130m mamba2-130m smollm2-135m --tokens 1024 4096 16384 --against

A step is one row forwards and backwards with the loss over the whole vocabulary, activations in bfloat16 and weights
in float32 (transformers under autocast, as people train with it); the optimizer is left out on both sides. Random
weights. Each side is a process of its own; they take turns. The floor is that of `braidlm.bench.training_floor`; a
ratio is the median of the rounds with the smallest and the largest. Memory is the process's at its peak.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from braidlm import families
from braidlm.bench import probe
from braidlm.bench.floor import Rates
from braidlm.bench.table import spread
from braidlm.bench.training_floor import training_floor
from braidlm.describe import skeleton
from braidlm.presets import preset
from braidlm.spec import ModelSpec

from . import report
from .report import Report

SHARE = 0.40  # of the floor, at least


def shape(name: str, layers: int | None) -> ModelSpec:
    spec = preset(name).spec
    return replace(spec, blocks=spec.blocks[:layers]) if layers else spec


def ours(spec: ModelSpec, recompute: bool) -> Callable[[int], None]:
    from braidlm.memory import keep_all_freed_memory
    from braidlm.train.config import Loss
    from braidlm.train.data.pack import Pack
    from braidlm.train.initial import initialise
    from braidlm.train.objective import Objective

    model = skeleton(spec)
    initialise(model, 0)
    model.requires_grad_()
    model.computing = torch.bfloat16
    objective = Objective(model, Loss(balance=0.0), recompute=recompute)
    keep_all_freed_memory()  # as the trainer does

    def step(tokens: int) -> None:
        ids = torch.randint(spec.vocab, (tokens + 1,))
        objective(Pack(ids[:-1], ids[1:], (tokens,), False, (0,))).loss.div(tokens).backward()
        model.zero_grad()

    return step


def theirs(spec: ModelSpec) -> Callable[[int], None]:
    import transformers

    config = dict(families.for_spec(spec)[1])
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    model: Any = transformers.AutoModelForCausalLM.from_config(made)
    model.config.use_cache = False
    for module in model.modules():
        if hasattr(module, "use_mambapy"):
            module.use_mambapy = True  # fastest of what it has on a CPU: a parallel scan

    def step(tokens: int) -> None:
        ids = torch.randint(spec.vocab, (1, tokens))
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(ids, labels=ids).loss
        loss.backward()
        model.zero_grad()

    return step


def serve(given: argparse.Namespace) -> None:
    """A side: for each length on standard input a line with the seconds of one step and the memory so far."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    spec = shape(given.models[0], given.layers)
    step = ours(spec, given.recompute) if given.side == "braidlm" else theirs(spec)
    for line in sys.stdin:
        begun = time.perf_counter()
        step(int(line))
        seconds = time.perf_counter() - begun
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]), flush=True)


class Side:
    """A process that makes steps when it is asked."""

    def __init__(self, given: argparse.Namespace, name: str, side: str) -> None:
        command = [sys.executable, "-m", "benchmarks.training_step", name, "--side", side]
        command += ["--threads", str(given.threads)] + (["--recompute"] if given.recompute else [])
        command += ["--layers", str(given.layers)] if given.layers else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self, tokens: int) -> tuple[float, int]:
        """Seconds, and the bytes of the process at its peak."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{tokens}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("a side has ended; see its message above")
        seconds, memory = json.loads(answer)
        return seconds, memory

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(given: argparse.Namespace, report: Report) -> None:
    """All models and lengths."""
    if given.side:
        serve(given)
        return
    torch.set_num_threads(given.threads)
    rows, report.found = [], {"machine": probe.machine(), "steps": []}
    for name in given.models:
        spec = shape(name, given.layers)
        for tokens in given.tokens:
            # A process for each length: its peak of memory is that length's.
            sides = [Side(given, name, side) for side in ("braidlm", *(["transformers"] if given.against else []))]
            for side in sides:
                side.step(tokens)  # warms up
            rates = Rates(1.0, "bfloat16", probe.matrix_rate(torch.bfloat16), probe.matrix_rate(torch.float32))
            rounds = [[side.step(tokens) for side in sides] for _ in range(given.rounds)]
            again = Rates(1.0, "bfloat16", probe.matrix_rate(torch.bfloat16), probe.matrix_rate(torch.float32))
            for side in sides:
                side.close()
            floor = training_floor(spec, tokens, rates.best(again), recompute=given.recompute)
            seconds = statistics.median(of_round[0][0] for of_round in rounds)
            ratios = [of_round[-1][0] / of_round[0][0] for of_round in rounds]
            rows.append([
                name, tokens, f"{seconds:.2f} s", f"{floor / seconds:.0%}", f"{rounds[-1][0][1] / 2**30:.1f} GiB",
                *([f"{statistics.median(r[1][0] for r in rounds):.2f} s", spread(ratios)] if given.against else []),
            ])  # fmt: skip
            report.found["steps"].append({"model": name, "tokens": tokens, "floor": floor, "rounds": rounds})
            report.check(f"{name}, {tokens} tokens: {floor / seconds:.0%} of the floor", floor / seconds >= SHARE)
    heads = ["model", "tokens", "a step", "of floor", "memory"]
    report.table([*heads, *(["transformers", "braidlm is"] if given.against else [])], rows)


if __name__ == "__main__":
    parser = report.parser(__doc__)
    parser.add_argument("models", nargs="+", help="presets")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024])
    parser.add_argument("--layers", type=int, help="only the first blocks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--recompute", action="store_true", help="blocks run again for their gradients")
    parser.add_argument("--against", action="store_true", help="beside transformers")
    parser.add_argument("--side", choices=["braidlm", "transformers"], help=argparse.SUPPRESS)
    report.run(measure, parser)
