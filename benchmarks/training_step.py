"""A training step's time beside its floor and, where transformers has the family, beside transformers.

    python -m benchmarks.training_step mamba-130m mamba2-130m smollm2-135m --tokens 1024 4096 16384 --against

A step is one row forwards and backwards with the loss over the whole vocabulary, activations in bfloat16 and weights
in float32 (transformers under autocast, as people train with it); the optimizer is left out on both sides. Random
weights. Each side is a process of its own; they take turns. The floor is `braidlm.planner.training_floor`, at the
higher of the rates measured right before and right after the step, anew in every round: a machine that is shared is not
as fast in one minute as in the next. A share or ratio is the median of the rounds with the smallest and the largest.
Memory is the process's at its peak.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from braidlm import families
from braidlm.bench.table import spread
from braidlm.families.presets import preset
from braidlm.model.footprint import skeleton
from braidlm.planner import probe
from braidlm.planner.floor import Rates
from braidlm.planner.training_floor import training_floor
from braidlm.spec import ModelSpec

from . import report
from .report import Report

SHARE = 0.40  # of the floor, at least


def shape(name: str, layers: int | None) -> ModelSpec:
    spec = preset(name).spec
    return replace(spec, blocks=spec.blocks[:layers]) if layers else spec


def braidlm_step(spec: ModelSpec, activation_checkpointing: bool) -> Callable[[int], None]:
    from braidlm.system.memory import keep_all_freed_memory
    from braidlm.train.config import Loss
    from braidlm.train.data.pack import Pack
    from braidlm.train.initial import initialise
    from braidlm.train.language_model import LanguageModelObjective
    from braidlm.train.passes import Passes

    model = skeleton(spec)
    initialise(model, 0)
    model.requires_grad_()
    model.compute_dtype = torch.bfloat16
    passes = Passes(activation_checkpointing=activation_checkpointing)
    objective = LanguageModelObjective(model, Loss(router_aux_loss=0.0), passes)
    keep_all_freed_memory()  # as the trainer does

    def step(tokens: int) -> None:
        ids = torch.randint(spec.vocab, (tokens + 1,))
        objective(Pack(ids[:-1], ids[1:], (tokens,), False, (0,))).loss.div(tokens).backward()
        model.zero_grad()

    return step


def transformers_step(spec: ModelSpec) -> Callable[[int], None]:
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
    step = braidlm_step(spec, given.activation_checkpointing) if given.side == "braidlm" else transformers_step(spec)
    for line in sys.stdin:
        begun = time.perf_counter()
        step(int(line))
        seconds = time.perf_counter() - begun
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]), flush=True)


class Side:
    """A process that makes steps when it is asked."""

    def __init__(self, given: argparse.Namespace, name: str, side: str) -> None:
        command = [sys.executable, "-m", "benchmarks.training_step", name, "--side", side]
        command += ["--threads", str(given.threads)] + (
            ["--activation-checkpointing"] if given.activation_checkpointing else []
        )
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


class Round(NamedTuple):
    """A step of each side in turn, and the floor of the first."""

    floor: float
    seconds: list[float]
    memory: int

    @property
    def share(self) -> float:
        return self.floor / self.seconds[0]

    @property
    def ratio(self) -> float:
        return self.seconds[-1] / self.seconds[0]

    @classmethod
    def of(cls, sides: Sequence[Side], spec: ModelSpec, tokens: int, activation_checkpointing: bool) -> "Round":
        before = rates()
        seconds, memory = sides[0].step(tokens)
        floor = training_floor(spec, tokens, before.best(rates()), activation_checkpointing=activation_checkpointing)
        return cls(floor, [seconds, *(side.step(tokens)[0] for side in sides[1:])], memory)


def rates() -> Rates:
    """What the machine multiplies now."""
    return Rates(1.0, "bfloat16", probe.matrix_rate(torch.bfloat16), probe.matrix_rate(torch.float32))


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
            rounds = [Round.of(sides, spec, tokens, given.activation_checkpointing) for _ in range(given.rounds)]
            for side in sides:
                side.close()
            seconds = [statistics.median(side) for side in zip(*(each.seconds for each in rounds), strict=True)]
            shares = [each.share for each in rounds]
            share = statistics.median(shares)
            rows.append([
                name, tokens, f"{seconds[0]:.2f} s", f"{share:.0%} ({min(shares):.0%}-{max(shares):.0%})",
                f"{rounds[-1].memory / 2**30:.1f} GiB",
                *([f"{seconds[1]:.2f} s", spread([each.ratio for each in rounds])] if given.against else []),
            ])  # fmt: skip
            found = [each._asdict() for each in rounds]
            report.found["steps"].append({"model": name, "tokens": tokens, "rounds": found})
            report.check(f"{name}, {tokens} tokens: {share:.0%} of the floor", share >= SHARE)
    heads = ["model", "tokens", "a step", "of floor", "memory"]
    report.table([*heads, *(["transformers", "braidlm is"] if given.against else [])], rows)


if __name__ == "__main__":
    parser = report.parser(__doc__)
    parser.add_argument("models", nargs="+", help="presets")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024])
    parser.add_argument("--layers", type=int, help="only the first blocks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--activation-checkpointing", action="store_true", help="blocks run again for their gradients")
    parser.add_argument("--against", action="store_true", help="beside transformers")
    parser.add_argument("--side", choices=["braidlm", "transformers"], help=argparse.SUPPRESS)
    report.run(measure, parser)
