"""Scaling study: layouts at several sizes, each trained at fixed budgets of compute, and the law that their losses fit.

    python examples/embedded/corpus.py packages corpus      # or any texts of your own
    braid tokenizer train corpus/train.jsonl --vocab 1024 --out tokenizer
    braid data shards corpus/train.jsonl --kind jsonl --tokenizer tokenizer --holdout 0.03
    cd examples/scaling && python study.py ../../shards ../../tokenizer ../../study

A budget is a number of FLOPs, and a model is trained on as many tokens as that pays for. Every run writes its loss on
held-out text to `study/runs.jsonl` and is not made again; then `study/fit.json`, and the pictures `study/isoflop.svg`
and `study/layouts.svg`, are made of the runs of the layouts that were asked for. Models are small: a process for each
core, with `--threads 1` and `--layouts` of its own, is faster than one with all threads; a last call has all layouts.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fit import SAMPLES, fitted
from ladder import LAYOUTS, WIDTHS, parameters, spec
from picture import draw_isoflop, draw_layouts

from braidlm.planner.operations import training_flops
from braidlm.text.tokenizer import Tokenizer
from braidlm.train import run as training
from braidlm.train import training_log
from braidlm.train.config import Config, Data, Optimizer, Run, Schedule, Source, Stage
from braidlm.train.data.manifest import Manifest
from braidlm.train.loop import Hooks
from braidlm.train.world import World

BATCH_SIZE, SEQ_LEN = 2, 512
# A rate that falls with the width suits all sizes of the ladder.
RATE = 0.25


def config_of(layout: str, width: int, budget: float, asked: argparse.Namespace, vocab: int) -> Config:
    """Run of a layout, as long as a budget of FLOPs allows."""
    model = spec(layout, width, vocab)
    steps = max(1, round(budget / (training_flops(model, SEQ_LEN) * BATCH_SIZE * SEQ_LEN)))
    name = f"{layout}-{width}-{budget:g}"
    return Config(
        model=Source(spec=model, tokenizer=str(asked.tokenizer)),
        data=Data(shards=str(asked.shards), eval_tokens=65_536),
        stages=(Stage(steps=steps, batch_size=BATCH_SIZE, seq_len=SEQ_LEN),),
        optimizer=Optimizer(lr=RATE / width),
        schedule=Schedule(warmup=0.05, final=0.1),
        run=Run(
            out=str((asked.out / name).absolute()), dtype="float32", evaluate=steps, checkpoint=500, keep=1,
            tensorboard=False,
        ),
    )  # fmt: skip


def train(config: Config) -> dict[str, float]:
    """Loss on held-out text, tokens trained on and seconds of a run, which goes on if it was stopped."""
    prepared = training.prepare(config, World())
    training.train(prepared, Hooks())
    log = training_log.read_log(Path(config.run.out) / training_log.FILE)
    steps = [line for line in log if "loss" in line]
    (evaluated,) = [line["eval_loss"] for line in log if "eval_loss" in line][-1:]
    return {
        "loss": evaluated,
        "tokens": sum(line["tokens"] for line in steps),
        "seconds": sum(line["seconds"] for line in steps),
    }


def runs(asked: argparse.Namespace, vocab: int) -> Iterator[dict[str, Any]]:
    """Facts of all runs; those that the file has with the same settings and data are not made again."""
    file = asked.out / "runs.jsonl"
    known = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    data = Manifest.read(asked.shards).digest()
    for budget in sorted(asked.budgets):
        for width in asked.widths:
            for layout in asked.layouts:
                config = config_of(layout, width, budget, asked, vocab)
                case = {"layout": layout, "width": width, "budget": budget, "made_from": _digest(config, data)}
                found = next((run for run in known if case.items() <= run.items()), None)
                if found is None:
                    found = {**case, **train(config)}
                    with file.open("a") as lines:
                        lines.write(json.dumps(found) + "\n")
                    print(f"{layout} {width} {budget:g}: loss {found['loss']:.3f}", flush=True)
                model = spec(layout, width, vocab)
                state = model.state_bytes(asked.context, dtype="float32", kv_dtype="float32")
                yield {**found, "parameters": parameters(model), "state": state}


def _digest(config: Config, data: str) -> str:
    """SHA-256 of what a run comes from: its settings without places, and the digest of its data."""
    settings = config.to_json()
    for table, key in (("run", "out"), ("data", "shards"), ("model", "tokenizer")):
        settings[table].pop(key)
    return hashlib.sha256(json.dumps([settings, data], sort_keys=True).encode()).hexdigest()


def main(asked: argparse.Namespace) -> None:
    """Makes the runs that are left, the fit and the pictures."""
    torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    every = list(runs(asked, Tokenizer.from_directory(asked.tokenizer).vocab_size))
    laws = {
        layout: fitted([run for run in every if run["layout"] == layout], asked.samples) for layout in asked.layouts
    }
    (asked.out / "fit.json").write_text(json.dumps(laws, indent=1))
    for layout, law in laws.items():
        said = ", ".join(f"{name} {value:.3g} ({low:.3g} to {high:.3g})" for name, (value, low, high) in law.items())
        print(f"{layout}: {said}")
    draw_isoflop(every, asked.out / "isoflop.svg")
    draw_layouts(every, asked.context, asked.out / "layouts.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budgets", nargs="+", type=float, default=[2e11, 6e11, 2e12], help="FLOPs of a run")
    parser.add_argument("--widths", nargs="+", type=int, default=list(WIDTHS))
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--context", type=int, default=2048, help="length in tokens at which states are compared")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="resampled fits, for the intervals")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    main(parser.parse_args())
