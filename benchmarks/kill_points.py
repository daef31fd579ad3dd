"""Sessions under `kill -9`: a process that saves four of them in turns is killed at random moments, many times.

    python -m benchmarks.kill_points --points 200 --seed 0

After each kill every session must be there, hold the last turn that was said to be saved (or the one whose saving
had begun), and every state in its file must lead on to the same tokens and the same bits of their log probabilities
as a run that begins from nothing. The model is a tiny Granite hybrid of random weights, run deterministically. The
next process goes on from what the last one left. How many kills fell into a saving is told too.
"""

import argparse
import functools
import multiprocessing
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tests.sessions.chats import LIMITS, answered, chat_model

from braidlm import LanguageModel
from braidlm.engine import Engine, Limits, Request, Snapshot
from braidlm.errors import BraidError
from braidlm.generation.sampling import Sampling
from braidlm.sessions import Chats, Session, SessionStore

from . import report
from .report import Report

NAMES = ("spring", "summer", "autumn", "winter")
LONGEST = 12  # messages, after which a session begins anew
PATIENCE_S = 0.2  # until the kill, at most, from the first saving on
_AFTER = Sampling(max_tokens=2)


@dataclass
class Kills:
    """What was found: kills, those that fell into a saving, states that were tried, and what was wrong."""

    points: int = 0
    inside: int = 0
    states: int = 0
    left_over: int = 0  # temporary files in the directory at the end, which no session's name leads to
    wrong: list[str] = field(default_factory=list)


def killed(directory: Path, points: int, seed: int) -> Kills:
    """Kills a saving process `points` times and looks at what is left each time."""
    rng, found, store = random.Random(seed), Kills(), SessionStore(directory)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([chat_model.__module__])  # imports are paid for once
    model = chat_model("granitemoehybrid", deterministic=True)
    saved: dict[str, Any] = {}
    with model.engine(limits=Limits(parallel=1, cache_memory=0)) as engine:
        for _ in range(points):
            receiver, sender = processes.Pipe(duplex=False)
            process = processes.Process(target=_save_for_ever, args=(directory, sender, rng.random()))
            process.start()
            sender.close()
            said = [receiver.recv(), receiver.recv()]
            time.sleep(rng.random() * PATIENCE_S)
            process.kill()
            process.join()
            said += _rest(receiver)
            begun = _followed(said, saved)
            found.points += 1
            found.inside += begun is not None
            _look(model, engine, store, saved, begun, found)
    found.left_over = sum(not path.name.endswith(".session") for path in directory.iterdir())
    return found


def _save_for_ever(directory: Path, telling: Connection, seed: float) -> None:
    """Another process: turn after turn; says what it is about to save, and that it has."""
    torch.set_num_threads(1)
    rng, model = random.Random(seed), chat_model("granitemoehybrid", deterministic=True)
    with model.engine(limits=LIMITS) as engine:
        chats = Chats(model, engine, store := SessionStore(directory))
        sessions = {name: chats.open(name).session if name in store else Session() for name in NAMES}
        while True:
            name = rng.choice(NAMES)
            before = sessions[name] if len(sessions[name].messages) < LONGEST else Session()
            after, turn = answered(chats, before, f"say {rng.randrange(100)}", name=name)
            telling.send(("begun", name, _meaning(after)))
            chats.save(name, after, turn.handle.snapshots)
            telling.send(("saved", name, _meaning(after)))
            sessions[name] = after


def _meaning(session: Session) -> tuple[Any, ...]:
    return session.ids, session.text, session.messages, session.message_ends


def _rest(connection: Connection) -> list[Any]:
    """What a process had said before it was killed."""
    said = []
    try:
        while True:
            said.append(connection.recv())
    except (EOFError, OSError):
        return said


def _followed(said: Sequence[Any], saved: dict[str, Any]) -> tuple[str, Any] | None:
    """Brings `saved` up to date; what was being saved when the end came."""
    begun = None
    for what, name, meaning in said:
        if what == "saved":
            saved[name] = meaning
        begun = (name, meaning) if what == "begun" else None
    return begun


def _look(
    model: LanguageModel,
    engine: Engine,
    store: SessionStore,
    saved: dict[str, Any],
    begun: tuple[str, Any] | None,
    found: Kills,
) -> None:
    """Opens every session; what is on disk becomes what is said to be saved."""
    for name in store.names():
        try:
            stored = store.load(name, engine.owner)
        except BraidError as error:
            found.wrong.append(f"kill {found.points}: {error}")
            continue
        meaning = _meaning(stored.session)
        allowed = [saved.get(name), *([begun[1]] if begun is not None and begun[0] == name else [])]
        if meaning not in allowed:
            found.wrong.append(f"kill {found.points}: session {name} is neither the one before nor the one after")
        saved[name] = meaning
        for state in stored.snapshots:
            found.states += 1
            if not _leads_on(model, engine, state):
                found.wrong.append(f"kill {found.points}: a state of session {name} leads elsewhere")
    lost = set(saved) - set(store.names())
    found.wrong += [f"kill {found.points}: session {name} is lost" for name in sorted(lost)]


def _leads_on(model: LanguageModel, engine: Engine, state: Snapshot) -> bool:
    ids = (*state.ids, 1)
    handle = engine.submit(Request(ids=ids, sampling=_AFTER, snapshots=(state,)))
    made = [(token.id, token.logprob) for _, token in handle]
    assert handle.usage is not None
    return handle.usage.cached == len(state.ids) and made == _cold(model, ids)


@functools.lru_cache(maxsize=256)
def _cold(model: LanguageModel, ids: tuple[int, ...]) -> list[tuple[int, float]]:
    """Sessions that the last kill did not touch are looked at again."""
    return [(token.id, token.logprob) for token in model.stream(list(ids), **vars(_AFTER))]


def measure(given: argparse.Namespace, report: Report) -> None:
    """All kills."""
    with tempfile.TemporaryDirectory(prefix="braidlm-kills-") as place:
        found = killed(Path(place), given.points, given.seed)
    report.found |= vars(found)
    report.table(
        ["kills", "while saving", "states tried", "temporary files left"],
        [[found.points, found.inside, found.states, found.left_over]],
    )
    report.check(
        "no session was lost, and none loads wrongly" + "".join(f"; {w}" for w in found.wrong[:3]), not found.wrong
    )


def main() -> None:
    """Reads the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    report.run(measure, parser)


if __name__ == "__main__":
    main()
