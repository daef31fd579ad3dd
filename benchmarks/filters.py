"""Long convolutions of a trained model as recurrences of several orders: what each loses, holds and gains in speed.

    python -m benchmarks.filters runs/hyena --orders 1 2 4 8 16 32 64

The run has implicit filters (`model.filters = "implicit"`). For each order `braid graft filters` makes a model of it in
float32, which is compared with the run's own filters, convolved by FFT in float32, on the documents that its shards
hold out, in pieces as long as the filters. The state is measured after 1,024, 8,192 and 32,768 tokens. Decoding takes
turns, round by round: a token by the recurrence, and a token by the implicit filters, which read the whole sequence
again for it.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typer.testing import CliRunner

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.bench.table import spread
from braidlm.cli.main import app
from braidlm.model.model import Model
from braidlm.ops import Segments
from braidlm.train import plan
from braidlm.train.data.shards import Shards
from braidlm.train.data.stream import Stream
from braidlm.train.export import load_outcome
from braidlm.train.outcome import Outcome

from . import report
from .report import Report

LENGTHS = (1024, 8192, 32768)
DECODED = 48


def held_out(outcome: Outcome) -> list[Tensor]:
    """Held-out documents in pieces as long as the filters, [T] each."""
    config, tokenizer = outcome.config, outcome.language.tokenizer
    assert tokenizer is not None and config.data.shards is not None
    documents = Shards(Path(config.data.shards), tokenizer).holdout
    steps = documents.tokens // config.max_seq_len
    stage = Stream(documents, 0).stage(0, 1, config.max_seq_len, steps)
    packs = [stage.pack(step, 0) for step in range(steps)]
    return [piece for pack in packs for piece in pack.ids_T.split(pack.lengths) if len(piece) > 1]


def grafted(run: Path, target: Path, order: int) -> tuple[dict[str, Any], float]:
    """What `braid graft filters` reports, and its seconds."""
    words = ["graft", "filters", str(run), str(target), "--order", str(order), "--dtype", "float32", "--json"]
    begun = time.perf_counter()
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    return json.loads(done.stdout), time.perf_counter() - begun


def errors(facts: dict[str, Any]) -> list[str]:
    """Largest error of a layer, and of a filter."""
    layers = facts["layers"].values()
    whole, worst = (layer["error"] for layer in layers), (layer["errors"]["worst"] for layer in layers)
    return [f"{max(whole):.1e}", f"{max(worst):.1e}"]


class Change(NamedTuple):
    """Change of the logits: the largest beside the largest logit, mean KL(FFT || modes) a token in nats, same choices.

    perplexity is that of the modes, reference that of the FFT.
    """

    largest: float
    divergence: float
    agreement: float
    perplexity: float
    reference: float
    tokens: int

    def cells(self) -> list[str]:
        """Cells of a table."""
        return [f"{self.largest:.1e}", f"{self.divergence:.1e}", f"{self.agreement:.2%}", f"{self.perplexity:.4f}"]


@torch.no_grad()
def change(model: Model, reference: Model, pieces: list[Tensor]) -> Change:
    """Compares both on pieces of text, each in one pass: implicit filters cannot go on where a pass has ended."""
    difference = largest = 0.0
    sums = torch.zeros(4, dtype=torch.float64)
    for ids in pieces:
        segments = Segments((len(ids) - 1,))
        ours, theirs = (made(ids[:-1], segments, made.training_state(1)).logits for made in (model, reference))
        difference = max(difference, float((ours - theirs).abs().max()))
        largest = max(largest, float(theirs.abs().max()))
        log, wanted = ours.double().log_softmax(-1), theirs.double().log_softmax(-1)
        nats = [-logs.gather(1, ids[1:, None]).sum() for logs in (log, wanted)]
        divergence = (wanted.exp() * (wanted - log)).sum()
        sums += torch.stack([divergence, (ours.argmax(1) == theirs.argmax(1)).sum().double(), *nats])
    tokens = sum(len(ids) - 1 for ids in pieces)
    divergence, agreement, nats, reference_nats = (sums / tokens).tolist()
    return Change(difference / largest, divergence, agreement, math.exp(nats), math.exp(reference_nats), tokens)


def state_sizes(model: LanguageModel) -> list[int]:
    """Bytes of a sequence's state after each of `LENGTHS` tokens."""
    state, found = model.new_state(), []
    for part in torch.randint(model.spec.vocab, (LENGTHS[-1],)).split(LENGTHS[0]):
        model.forward(part[None], state=state, logits=None)
        if state.lengths[0] in LENGTHS:
            found.append(state.nbytes)
    return found


def recurrent(model: LanguageModel, ids: list[int]) -> float:
    """Seconds of a token that the recurrence decodes after a prompt."""
    times = [time.perf_counter() for _ in model.stream(ids, max_tokens=DECODED, temperature=0)]
    return (times[-1] - times[0]) / (len(times) - 1)


@torch.no_grad()
def convolved(model: Model, ids: list[int]) -> float:
    """Seconds of a token by the implicit filters, which read its whole sequence."""
    packed = torch.tensor(ids)
    begun = time.perf_counter()
    model(packed, Segments((len(ids),)), model.training_state(1), logits="last")
    return time.perf_counter() - begun


def measure(given: argparse.Namespace, found: Report) -> None:
    """Compares every order with the run's own filters."""
    outcome = load_outcome(plan.read_any(given.run))
    reference, length = outcome.model.eval(), outcome.config.max_seq_len
    reference.compute_dtype = torch.float32  # as the grafted models compute, whatever the run did
    pieces = held_out(outcome)
    prompt = torch.cat(pieces)[: length - DECODED].tolist()
    rows, speeds = list[list[object]](), list[list[object]]()
    with tempfile.TemporaryDirectory(prefix="braidlm-filters-") as place:
        models = {}
        for order in given.orders:
            target = Path(place) / str(order)
            facts, seconds = grafted(given.run, target, order)
            models[order] = braidlm.load(target, dtype="float32")
            changed = change(models[order].network, reference, pieces)
            sizes = state_sizes(models[order])
            found.found[str(order)] = {"report": facts, "seconds": seconds, "states": sizes, **changed._asdict()}
            rows.append([order, *errors(facts), *changed.cells(), f"{seconds:.0f} s", *sizes])
            found.check(f"order {order}: a state of one size", len(set(sizes)) == 1)
        turns = [
            (convolved(reference, prompt), {order: recurrent(model, prompt) for order, model in models.items()})
            for _ in range(given.rounds + 1)
        ][1:]
    for order in given.orders:
        seconds = statistics.median(each[order] for _, each in turns)
        speeds.append([order, f"{1 / seconds:.0f}", spread([slow / each[order] for slow, each in turns])])
        found.found[str(order)]["decode_s"] = [each[order] for _, each in turns]
    found.found["implicit_s"] = [slow for slow, _ in turns]
    found.say(f"{len(pieces)} pieces, {changed.tokens} tokens; perplexity by FFT {changed.reference:.4f}")
    heads = ["order", "error", "worst filter", "logits", "KL, nats", "same first choice", "perplexity", "graft"]
    found.table([*heads, *(f"state at {count}" for count in LENGTHS)], rows)
    slow = statistics.median(each for each, _ in turns)
    found.say(f"a token by FFT after {len(prompt)} tokens: {report.milliseconds(slow)}")
    found.table(["order", "decoded tokens a second", "recurrence is faster"], speeds)


if __name__ == "__main__":
    arguments = report.parser(__doc__)
    arguments.add_argument("run", type=Path, help="directory of a run with implicit filters")
    arguments.add_argument("--orders", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    arguments.add_argument("--rounds", type=int, default=5)
    report.run(measure, arguments)
