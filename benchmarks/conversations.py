"""Four long conversations in one gibibyte of kept states, with the state of Granite-4.0-H-Tiny: what is read again.

    python -m benchmarks.conversations                    # 8,192 tokens each, bfloat16
    python -m benchmarks.conversations --deterministic    # equal to cold runs bit for bit

The state is that of the published shape: 36 Mamba-2 layers of 48 heads, 64 by 128 each, with their convolutions,
and 4 attention layers of 4 key-value heads of 128; 54 MiB a kept place and 8 KiB a token. What costs time but holds
no state is cut: the stream is 256 wide, feed-forwards are 256 wide without experts, the vocabulary has 1,024 words.
Weights are random. Conversations grow in rotation, a message and an answer at a time; then in each an earlier
message is edited: the last one, one in the middle, and an early one. The table tells what each kind of turn took
from the cache, read again (`recomputed`) and read for the first time (`computed`), and why. Of sampled turns the log
probabilities of all answer's tokens are held against one cold pass over the whole text, within the tolerance of
`braid verify` (relative to the largest logit), or to the bit. What must hold besides: every turn computes only
what is new, appended turns read at most a twentieth of what was said before again, and kept states stay within
`--cache-memory`.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

import braidlm
from braidlm import LanguageModel
from braidlm.bench.verify import tolerance_of
from braidlm.engine import Engine, Limits, Request, Usage
from braidlm.families.presets import preset
from braidlm.generation.sampling import Sampling
from braidlm.spec import Mlp, ModelSpec
from braidlm.system.units import bytes_of

from . import report
from .report import Report, milliseconds
from .streams import random_ids

CONVERSATIONS = 4
WIDTH, VOCAB = 256, 1024
EDITS = {"last": 1.0, "middle": 0.5, "early": 0.15}  # where the edited message lies in its conversation
AGAIN = 0.05
_ANSWER = 32  # tokens


def narrow() -> ModelSpec:
    """Granite-4.0-H-Tiny's layers with their states, between few channels."""
    spec = preset("granite-4.0-tiny").spec
    blocks = tuple(replace(block, ffn=Mlp(hidden=WIDTH)) for block in spec.blocks)
    return replace(spec, width=WIDTH, vocab=VOCAB, blocks=blocks)


@dataclass
class Conversation:
    """What was said, and where its messages end."""

    ids: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def before_edit(self, share: float) -> "Conversation":
        """What stays when the message of the person at that part of the conversation is said anew."""
        turns = len(self.ends) // 2
        kept = self.ends[: 2 * max(0, min(turns - 1, int(share * turns)))]
        return Conversation(self.ids[: kept[-1] if kept else 0], kept)


class Turn(NamedTuple):
    """One turn: its kind, what its prompt cost, and what it wrote."""

    kind: str
    new: int  # tokens of the prompt that were not said before
    usage: Usage
    seconds: float  # to the first token
    ids: tuple[int, ...]
    made: list[tuple[int, float]]  # tokens and their log probabilities


def said(engine: Engine, talk: Conversation, message: list[int], kind: str) -> Turn:
    """A message and its answer, appended to `talk`."""
    known, ids = len(talk.ids), (*talk.ids, *message)
    begun, first, made = time.perf_counter(), 0.0, []
    handle = engine.submit(
        Request(ids=ids, sampling=Sampling(max_tokens=_ANSWER), message_boundaries=(*talk.ends, len(ids)))
    )
    for _, token in handle:
        first = first or time.perf_counter() - begun
        made.append((token.id, token.logprob))
    assert handle.usage is not None
    talk.ids = [*ids, *(id for id, _ in made)]
    talk.ends += [len(ids), len(talk.ids)]
    return Turn(kind, len(ids) - known, handle.usage, first, ids, made)


def turns(engine: Engine, tokens: int, message: int, rng: random.Random) -> Iterator[Turn]:
    """Conversations growing to `tokens` in rotation, and their edits."""
    talks = [Conversation() for _ in range(CONVERSATIONS)]
    while any(len(talk.ids) + message + _ANSWER <= tokens for talk in talks):
        for talk in talks:
            kind = "appended" if talk.ids else "first"
            yield said(engine, talk, random_ids(rng, message, VOCAB), kind)
    for where, share in EDITS.items():
        for talk in talks:
            yield said(engine, talk.before_edit(share), random_ids(rng, message, VOCAB), f"edit, {where}")


def error(model: LanguageModel, turn: Turn) -> float:
    """Largest difference of an answer's log probabilities from a cold run's, over the largest logit."""
    if model.deterministic:
        cold = [(token.id, token.logprob) for token in model.stream(list(turn.ids), max_tokens=_ANSWER)]
        return 0.0 if cold == turn.made else float("inf")
    ids = [*turn.ids, *(id for id, _ in turn.made)]
    state = model.new_state()
    first = model.forward([ids[: len(turn.ids)]], state=state, logits="last")
    rest = model.forward([ids[len(turn.ids) : -1]], state=state)
    logits = torch.cat([first, rest[0]])
    again = logits.log_softmax(-1).gather(-1, torch.tensor([[id] for id, _ in turn.made]))[:, 0]
    apart = (again - torch.tensor([logprob for _, logprob in turn.made])).abs().max()
    return float(apart / logits.abs().max())


def measure(given: argparse.Namespace, report: Report) -> None:
    """All turns, then the cold runs."""
    built = braidlm.build(narrow(), dtype="bfloat16")
    model = LanguageModel(built.network, None, built.origin, deterministic=given.deterministic)
    fixed = model.spec.state_bytes(0, dtype="bfloat16")
    each = (model.spec.state_bytes(1 << 20, dtype="bfloat16") - fixed) / (1 << 20)
    report.say(f"state: {fixed / 2**20:.1f} MiB and {each / 1024:.1f} KiB a token; {model.spec.width} wide")
    limits = Limits(parallel=1, cache_memory=bytes_of(given.cache_memory))
    rng, found, most = random.Random(given.seed), [], 0
    with model.engine(limits=limits) as engine:
        for turn in turns(engine, given.tokens, given.message, rng):
            found.append(turn)
            most = max(most, engine.stats.cache_bytes)
            report.say(f"turn {len(found)}, {turn.kind}: {turn.usage}, first token after {turn.seconds:.2f} s")
    _tell(report, found)
    report.check(f"kept states took {most >> 20} MiB at most, of {given.cache_memory}", most <= limits.cache_memory)
    # The last token of an answer was given, but not run.
    report.check("every turn computes only what is new", all(turn.usage.computed <= turn.new + 1 for turn in found))
    appended = [turn for turn in found if turn.kind == "appended"]
    again = sum(turn.usage.recomputed for turn in appended) / sum(len(turn.ids) - turn.new for turn in appended)
    report.check(f"appended turns read {again:.2%} of what was said before again (at most {AGAIN:.0%})", again <= AGAIN)
    _compare(report, model, found, given.sample, rng)


def _tell(report: Report, found: list[Turn]) -> None:
    rows = []
    for kind in dict.fromkeys(turn.kind for turn in found):
        mine = [turn for turn in found if turn.kind == kind]
        sums = _sums(mine)
        why = "; ".join(f"{count}x {why}" for why, count in Counter(turn.usage.why for turn in mine).items())
        mean = sum(turn.seconds for turn in mine) / len(mine)
        rows.append([kind, len(mine), sum(len(turn.ids) for turn in mine), *sums, milliseconds(mean), why])
    totals = [len(found), sum(len(turn.ids) for turn in found), *_sums(found)]
    report.table(
        ["turns", "number", "prompt tokens", "cached", "recomputed", "computed", "first token, mean", "why"],
        [*rows, ["all", *totals, "", ""]],
    )
    report.found["turns"] = [turn._asdict() | {"ids": len(turn.ids), "usage": turn.usage._asdict()} for turn in found]
    report.found["totals"] = dict(zip(["turns", "prompt", "cached", "recomputed", "computed"], totals, strict=True))


def _sums(found: list[Turn]) -> list[int]:
    """Tokens cached, recomputed, computed."""
    usages = [turn.usage for turn in found]
    return [sum(u.cached for u in usages), sum(u.recomputed for u in usages), sum(u.computed for u in usages)]


def _compare(report: Report, model: LanguageModel, found: list[Turn], sample: int, rng: random.Random) -> None:
    edits = [turn for turn in found if turn.kind.startswith("edit")]
    chosen = [*rng.sample(found, min(sample, len(found))), *rng.sample(edits, min(sample, len(edits)))]
    errors = [error(model, turn) for turn in chosen]
    report.found["errors"] = errors
    allowed = tolerance_of(model)
    near = f"within {max(errors):.1e} of the largest logit (at most {allowed:.0e})"
    words = "bit for bit" if model.deterministic else near
    report.check(f"{len(errors)} sampled turns agree with cold runs, {words}", max(errors) <= allowed)


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--tokens", type=int, default=8192, help="of each conversation")
    parser.add_argument("--message", type=int, default=480, help="tokens of each message")
    parser.add_argument("--cache-memory", default="1GiB")
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--sample", type=int, default=4, help="turns, and as many edits, that are run again cold")
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
