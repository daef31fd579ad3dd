"""Requests of different owners at one engine, interleaved at random: each must be answered as by a fresh engine.

    python -m benchmarks.interleavings --rounds 20 --seed 0

Three kinds, so many rounds of each: adapters, learned initial states and the model itself; two API keys; sessions and
plain chats. A round has one engine with little memory, several threads, cancelled requests, copies, requests that bring
states, and sessions that are stored and taken up again. Every answer is made again by an engine that has seen nothing:
token ids must be the same, and log probabilities the same bits in deterministic runs. Adapters have no deterministic
runs: theirs may differ as sums in another order do. What one owner's usage says must be what it says where nobody else
asks; states of another owner must be refused. The models are tiny and have random weights.
"""

import argparse
import random
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tests.adapters.models import loaded
from tests.sessions.chats import chat_model
from tests.tolerances import RELATIVE_LOGITS

from braidlm import LanguageModel
from braidlm.engine import Engine, Limits, Request, RequestHandle, Snapshot, Usage
from braidlm.errors import StateError
from braidlm.generation.continuation import Token
from braidlm.generation.sampling import Sampling
from braidlm.sessions import Chats, Session, SessionStore, Turn
from braidlm.sessions.transcripts import Message

from . import report
from .report import Report

# So little memory that kept states are dropped within a round.
LIMITS = Limits(parallel=4, snapshot_interval=8, prefill_chunk=16, cache_memory=1 << 18)
ROOMY = replace(LIMITS, cache_memory=1 << 30)
THREADS = 4
REQUESTS = 4  # of each thread in a round
WAYS = ((None, None), ("one", None), ("two", None), (None, "task"), ("one", "task"))
OWN_WORDS = ("the river", "a long way down", "say it again", "what then?", "and the other one")

Answer = list[list[tuple[int, float]]]  # ids and log probabilities of every copy


@dataclass
class Found:
    """What was seen of one kind: answers that were compared, states that were refused, and what was wrong."""

    answers: int = 0
    cut: int = 0  # of the answers, those that were left before their end
    refused: int = 0
    apart: float = 0.0  # the largest difference of log probabilities, relative to the larger of theirs and 1
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def compare(self, what: str, found: Answer, expected: Answer, tolerance: float) -> None:
        """Counts an answer; one that was left may be shorter."""
        with self.lock:
            self.answers += 1
            self.cut += [*map(len, found)] != [*map(len, expected)]
            for crowded, solo in zip(found, expected, strict=True):
                solo = solo[: len(crowded)]
                if [token for token, _ in crowded] != [token for token, _ in solo]:
                    self.wrong.append(f"{what}: other tokens")
                    return
                pairs = [(a, b) for (_, a), (_, b) in zip(crowded, solo, strict=True)]
                apart = max((abs(a - b) / max(1.0, abs(a), abs(b)) for a, b in pairs), default=0.0)
                self.apart = max(self.apart, apart)
                if apart > tolerance:
                    self.wrong.append(f"{what}: log probabilities are {apart:.1e} apart")

    def require(self, what: str, holds: bool) -> None:
        """Anything else that must be."""
        if not holds:
            with self.lock:
                self.wrong.append(what)


def together(work: Sequence[Callable[[], None]]) -> None:
    """Each in a thread of its own; the first error is raised."""
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()


def answer_of(engine: Engine, request: Request, leave: int | None = None) -> tuple[Answer, tuple[Snapshot, ...]]:
    """A request's answer and states; cancelled after `leave` tokens."""
    handle = engine.submit(request)
    made: Answer = [[] for _ in range(request.n)]
    for number, (copy, token) in enumerate(handle):
        made[copy].append((token.id, token.logprob))
        if number + 1 == leave:
            handle.cancel()
    handle.wait()
    return made, handle.snapshots


def fresh(model: LanguageModel, request: Request) -> Answer:
    """The answer of an engine that has seen nothing, from no states."""
    with model.engine(limits=replace(ROOMY, cache_memory=0)) as engine:
        return answer_of(engine, replace(request, snapshots=(), wants_snapshots=False))[0]


def variants(
    model: LanguageModel, rng: random.Random, found: Found, ways: Sequence[tuple[str | None, str | None]]
) -> None:
    """One round of adapters, learned initial states and the model itself; all begin alike."""
    text = [rng.randrange(3, 30) for _ in range(60)]
    tolerance = 0.0 if model.deterministic else RELATIVE_LOGITS[model.network.dtype]

    def client(seed: float) -> None:
        own = random.Random(seed)
        held: dict[tuple[str | None, str | None], tuple[Snapshot, ...]] = dict.fromkeys(ways, ())
        for _ in range(REQUESTS):
            way = own.choice(ways)
            ids = tuple(text[: own.randrange(4, 60)]) + tuple(own.randrange(3, 30) for _ in range(own.randrange(3)))
            snapshots: tuple[Snapshot, ...] = held[way] if own.random() < 0.5 else ()
            if snapshots:
                ids = (*snapshots[-1].ids, own.randrange(3, 30))
            sampling = Sampling(
                max_tokens=own.randrange(2, 9), temperature=own.choice((0.0, 1.0)), seed=own.randrange(99)
            )
            request = Request(
                ids=ids, sampling=sampling, n=own.choice((1, 1, 2)), snapshots=snapshots, wants_snapshots=True,
                adapter=way[0], initial=way[1],
            )  # fmt: skip
            made, left = answer_of(engine, request, own.choice((None, None, 2)))
            found.compare(f"{way} after {len(ids)} tokens", made, fresh(model, request), tolerance)
            held[way] = left or held[way]
            for other in ways:
                if other != way and left:
                    adapter, initial = other
                    refused = replace(request, ids=(*left[-1].ids, 5), snapshots=left, adapter=adapter, initial=initial)
                    _refused(engine, refused, found)

    with model.engine(limits=LIMITS) as engine:
        together([partial(client, rng.random()) for _ in range(THREADS)])


def _refused(engine: Engine, request: Request, found: Found) -> None:
    try:
        engine.submit(request).cancel()
    except StateError:
        with found.lock:
            found.refused += 1
        return
    found.require(f"states of another owner were taken for {request.adapter} and {request.initial}", False)


def keys(model: LanguageModel, rng: random.Random, found: Found) -> None:
    """One round of two keys, which ask for much of the same."""
    plans = {key: [_asked(rng) for _ in range(2 * REQUESTS)] for key in ("one", "two")}

    def client(chats: Chats, key: str, told: list[tuple[Answer, Usage | None]]) -> None:
        for words, sampling in plans[key]:
            turn = chats.begin([{"role": "user", "content": word} for word in words], sampling, cache_salt=key)
            made = _logprobs([token for _, token in turn.handle])
            turn.handle.wait()
            told.append(([made], turn.handle.usage))
            with model.engine(limits=ROOMY) as engine:
                again = Chats(model, engine).begin(turn.messages, sampling)
                cold = _logprobs([token for _, token in again.handle])
            found.compare(f"key {key}", [made], [cold], 0.0)

    beside: dict[str, list[tuple[Answer, Usage | None]]] = {key: [] for key in plans}
    with model.engine(limits=ROOMY) as engine:
        chats = Chats(model, engine)
        together([partial(client, chats, key, beside[key]) for key in plans])
    for key in plans:
        alone: list[tuple[Answer, Usage | None]] = []
        with model.engine(limits=ROOMY) as engine:
            client(Chats(model, engine), key, alone)
        found.require(f"key {key} is told of another's prompts", alone == beside[key])


def _asked(rng: random.Random) -> tuple[tuple[str, ...], Sampling]:
    words = (*OWN_WORDS[: rng.randrange(1, 4)], rng.choice(OWN_WORDS))
    return words, Sampling(max_tokens=rng.randrange(2, 8), temperature=1.0, seed=rng.randrange(9))


def sessions(model: LanguageModel, rng: random.Random, found: Found, store: SessionStore) -> None:
    """One round of sessions, stored and taken up, and of plain chats that say the same words."""

    def compare(what: str, made: list[Token], begin: Callable[[Chats], Turn]) -> None:
        with model.engine(limits=replace(ROOMY, cache_memory=0)) as engine:
            cold = [token for _, token in begin(Chats(model, engine)).handle]
        found.compare(what, [_logprobs(made)], [_logprobs(cold)], 0.0)

    def in_session(name: str, seed: float) -> None:
        own, session = random.Random(seed), Session()
        for _ in range(REQUESTS):
            messages, sampling = _said(session.messages, own)
            turn = chats.begin_in(session, messages, sampling, name=name)
            made = _left(turn.handle, own)
            compare(f"session {name}", made, partial(_again_in, session, turn))
            if made:
                session = chats.finish(session, turn, made)
                chats.save(name, session, turn.handle.snapshots)
                session = chats.open(name).session if own.random() < 0.5 else session

    def plain(seed: float) -> None:
        own, session = random.Random(seed), Session()
        for _ in range(REQUESTS):
            messages, sampling = _said(session.messages, own)
            turn = chats.begin(messages, sampling)
            made = _left(turn.handle, own)
            compare("a plain chat", made, partial(_again, turn))
            session = chats.finish(Session(), turn, made)

    with model.engine(limits=LIMITS) as engine:
        chats = Chats(model, engine, store)
        work = [partial(in_session, name, rng.random()) for name in ("spring", "autumn")]
        together([*work, *(partial(plain, rng.random()) for _ in range(2))])


def _again(turn: Turn, chats: Chats) -> Turn:
    return chats.begin(turn.messages, turn.handle.request.sampling)


def _again_in(session: Session, turn: Turn, chats: Chats) -> Turn:
    return chats.begin_in(session, turn.messages, turn.handle.request.sampling)


def _said(messages: Sequence[Message], rng: random.Random) -> tuple[list[Message], Sampling]:
    more = {"role": "user", "content": rng.choice(OWN_WORDS)}
    return [*messages, more], Sampling(max_tokens=rng.randrange(2, 9), temperature=1.0, seed=rng.randrange(9))


def _logprobs(tokens: Sequence[Token]) -> list[tuple[int, float]]:
    return [(token.id, token.logprob) for token in tokens]


def _left(handle: RequestHandle, rng: random.Random) -> list[Token]:
    """An answer's tokens; of one that is left, those included that came after."""
    leave = rng.choice((None, None, 1))
    made: list[Token] = []
    for _, token in handle:
        made.append(token)
        if len(made) == leave:
            handle.cancel()
    handle.wait()
    return made


def rounds_of(kind: str, rounds: int, seed: int, place: Path) -> Found:
    """So many rounds of one kind."""
    rng, found = random.Random(seed), Found()
    if kind.startswith("variants"):
        model = loaded("bamba", place)
        if kind == "variants, deterministic":
            made = LanguageModel(model.network, None, model.origin, deterministic=True)
            made.load_initial_state("task", place / "task.safetensors")
            model = made
        ways = [way for way in WAYS if way[0] is None] if model.deterministic else WAYS
        for _ in range(rounds):
            variants(model, rng, found, ways)
        return found
    model = chat_model("bamba", deterministic=True)
    for number in range(rounds):
        if kind == "keys":
            keys(model, rng, found)
        else:
            sessions(model, rng, found, SessionStore(place / str(number)))
    return found


KINDS = ("variants", "variants, deterministic", "keys", "sessions")


def measure(given: argparse.Namespace, report: Report) -> None:
    """All kinds."""
    rows = []
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="braidlm-interleavings-") as place:
            found = rounds_of(kind, given.rounds, given.seed, Path(place))
        rows.append([kind, given.rounds, found.answers, found.cut, found.refused, f"{found.apart:.1e}"])
        report.found[kind] = {name: value for name, value in vars(found).items() if name != "lock"}
        report.check(f"{kind}: as fresh engines" + "".join(f"; {w}" for w in found.wrong[:3]), not found.wrong)
    report.table(["kind", "interleavings", "answers", "left early", "states refused", "apart"], rows)


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
