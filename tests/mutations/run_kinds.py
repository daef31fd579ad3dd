"""Kinds of files that hold what a model has seen or learned: sessions, shards of tokens, checkpoints of training."""

import json
from functools import cache
from pathlib import Path

from braidlm.api.language_model import LanguageModel
from braidlm.engine import Grammar, Limits
from braidlm.generation.sampling import Sampling
from braidlm.sessions import Chats, Session, SessionStore
from braidlm.train.config import Config, Data, Loss, Optimizer, Run, Schedule, Source, Stage
from braidlm.train.data.build import build
from braidlm.train.data.documents import Documents
from braidlm.train.data.recipe import Recipe
from braidlm.train.data.shards import Shards
from braidlm.train.data.stream import Stream
from braidlm.train.data.whole import Whole
from braidlm.train.loop import Hooks, Trainer

from . import small
from .kind import Kind, digest, never, plain_values

_LETTERS = Grammar("regex", "[a-z]{5,9}")
_SAMPLING = Sampling(max_tokens=8, temperature=1.0, seed=5)


@cache
def _model() -> LanguageModel:
    return small.model()


def _answered(chats: Chats, session: Session, text: str) -> Session:
    messages = [*session.messages, {"role": "user", "content": text}]
    turn = chats.begin_in(session, messages, _SAMPLING, grammar=_LETTERS)
    session = chats.finish(session, turn, [token for _, token in turn.handle])
    chats.save("talk", session, turn.handle.snapshots)
    return session


def _build_session(place: Path) -> None:
    with _model().engine(limits=Limits(parallel=2)) as engine:
        chats = Chats(_model(), engine, SessionStore(place), "small")
        session = _answered(chats, Session(), "hello")
        _answered(chats, session, "and all")
        chats.fork("talk", "other")


def _read_session(place: Path) -> str:
    store = SessionStore(place)
    # By name: the listing's order is that of the files' times, which damage changes.
    about = sorted((found.name, found.title, found.messages, found.tokens) for found in store.all())
    if "other" not in [name for name, *_ in about]:
        raise AssertionError("a session beside the damaged one is not listed")
    with _model().engine(limits=Limits(parallel=2)) as engine:
        chats = Chats(_model(), engine, store, "small")
        session = _answered(chats, chats.open("talk").session, "go on")
    return digest(session.messages, session.ids, about)


def _build_shard(place: Path) -> None:
    lines = [{"text": f"hello {number} all of it, and a hell of a lot"} for number in range(12)]
    (place / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    chats = [{"messages": [{"role": r, "content": f"{r} {n}"} for r in ("user", "assistant")]} for n in range(8)]
    (place / "b.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    build(place / "plain", [place / "a.jsonl"], small.tokenizer(), Recipe(kind="jsonl", holdout=2), shard_bytes=300)
    build(place / "chats", [place / "b.jsonl"], small.tokenizer(), Recipe(kind="chat"))


def _read_shard(place: Path) -> str:
    parts: list[object] = []
    for name in ("plain", "chats"):
        found = Shards(place / name, small.tokenizer())
        parts += [found.manifest.kind, *_packs(found.training)]
        if len(found.holdout):
            parts += _packs(found.holdout)
    return digest(*parts)


def _packs(documents: Documents) -> list[object]:
    """An epoch in both packings, and where each document came from."""
    stream = Stream(documents, 1).stage(0, 1, 40, -(-documents.tokens // 40))
    whole = Whole(documents, 1, "truncate").stage(0, 1, 200, 3)
    packs = [stream.pack(step, 0) for step in range(-(-documents.tokens // 40))]
    packs += [whole.pack(step, 0) for step in range(3)]
    parts: list[object] = [part for pack in packs for part in (pack.ids_T, pack.targets_T)]
    return parts + [documents.where(int(number)) for number in documents.numbers_N]


def _shard_lawful(name: str, intact: bytes, changed: bytes | None) -> bool:
    """Values of the manifest may be others of their type; where documents came from, and which tokens are trained on.

    Token files have digests of their documents in the index, and lines and flags have none.
    """
    if changed is None or len(changed) != len(intact):
        return changed is not None and name.endswith(".json") and plain_values(intact, changed)
    if name.endswith(".index"):
        return _without_lines(intact) == _without_lines(changed)
    if name.endswith(".trained"):
        return set(changed) <= {0, 1}
    return name.endswith(".json") and plain_values(intact, changed)


def _without_lines(index: bytes) -> list[bytes]:
    """Entries of an index without the line and the source that messages name."""
    entries = [index[at : at + 32] for at in range(0, len(index), 32)]
    return [entry[:8] + entry[16:24] + entry[28:] for entry in entries]


def _config(place: Path) -> Config:
    return Config(
        model=Source(preset="none"),
        data=Data(shards="none"),
        stages=(Stage(steps=4, batch_size=1, seq_len=24),),
        optimizer=Optimizer(lr=1e-2),
        schedule=Schedule(warmup=1),
        loss=Loss(),
        run=Run(out=str(place / "out"), checkpoint=2, evaluate=0, tensorboard=False, carry_state=True),
    )


def _train(place: Path, until: int | None) -> str:
    from tests.train.packings import OneText  # noqa: PLC0415 (of the tests of training)

    losses: list[float] = []
    network = small.model().network
    packing = OneText([b % network.spec.vocab for b in b"Sing, o goddess, the wrath of Achilles. " * 9])
    trainer = Trainer(_config(place), network, packing, [])
    begun = trainer.step
    trainer.run(Hooks(stepped=lambda step: losses.append(step.loss)), until=until)
    return digest(begun, losses, *(weight.detach().float() for weight in network.parameters()))


def _build_checkpoint(place: Path) -> None:
    _train(place, 2)


def _checkpoint_lawful(name: str, intact: bytes, changed: bytes | None) -> bool:
    """Weights and moments have no checksum: their bits may be any. Values of what was told may be others."""
    if name.endswith(".distcp"):
        return changed is not None and len(changed) == len(intact)
    return name.endswith("progress.json") and plain_values(intact, changed)


KINDS = (
    Kind("session", _build_session, _read_session, ("talk.session",), never),
    Kind("shard", _build_shard, _read_shard, ("plain/*", "chats/*"), _shard_lawful),
    Kind(
        "checkpoint",
        _build_checkpoint,
        lambda place: _train(place, None),
        ("out/checkpoints/*/*", "out/checkpoints/*/.metadata"),
        _checkpoint_lawful,
    ),
)
