"""Files of sessions: whole at every moment, listed, forked, deleted, refused."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks.kill_points import killed

from braidlm.engine import Snapshot
from braidlm.errors import InputError, StateError
from braidlm.sessions import Chats, Session, SessionStore
from braidlm.sessions.session import RUNGS, thinned
from tests.engine.states import row
from tests.sessions.chats import LIMITS, answered, chat_model

KILLS = 8  # benchmarks.kill_points takes as many as one likes


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Oracle: what the killed process said to be saved; and cold runs, to the bit, of every state in every file."""
    found = killed(tmp_path, KILLS, seed=0)
    assert found.wrong == []
    assert found.states > KILLS


def test_listing_forking_deleting(tmp_path: Path) -> None:
    """Oracle: by hand, what each step leaves."""
    store, model = SessionStore(tmp_path / "deep" / "sessions"), chat_model("mamba")
    assert store.all() == []
    with model.engine(limits=LIMITS) as engine:
        chats = Chats(model, engine, store, "tiny")
        session, turn = answered(chats, Session(), "what is  a\nriver?")
        chats.save("one", session, turn.handle.snapshots)
        owner = engine.owner
    about = store.summary("one")
    assert (about.name, about.model, about.title) == ("one", "tiny", "what is a river?")
    assert (about.messages, about.tokens) == (session.messages, len(session.ids))
    store.fork("one", "two")
    with pytest.raises(InputError, match="already"):
        store.fork("one", "two")
    store.delete("one")
    assert [about.name for about in store.all()] == ["two"]
    assert store.load("two", owner).session == session
    (store.directory / "broken.session").write_bytes(b"nothing")
    (store.directory / "note.txt").write_text("not ours")
    assert [about.name for about in store.all()] == ["two"]
    for name in ("one", "broken"):
        with pytest.raises(StateError):
            store.load(name, owner)
    for name in ("", ".hidden", "a/b", "x" * 101, "ü"):
        with pytest.raises(InputError, match="session name"):
            store.path(name)


def test_another_model_is_refused(tmp_path: Path) -> None:
    """Oracle: one sentence that says why."""
    store = SessionStore(tmp_path)
    with chat_model("mamba").engine(limits=LIMITS) as engine:
        chats = Chats(chat_model("mamba"), engine, store)
        session, turn = answered(chats, Session(), "hello")
        chats.save("talk", session, turn.handle.snapshots)
    with chat_model("mamba2").engine(limits=LIMITS) as other, pytest.raises(StateError, match="another model"):
        store.load("talk", other.owner)


def test_a_full_disk_keeps_the_session_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the session that was saved before; the error names the file."""
    store, model = SessionStore(tmp_path), chat_model("mamba")
    with model.engine(limits=LIMITS) as engine:
        chats = Chats(model, engine, store)
        session, turn = answered(chats, Session(), "hello")
        chats.save("talk", session, turn.handle.snapshots)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("braidlm.state.state_file.save_file", full)
        more, turn = answered(chats, session, "more")
        with pytest.raises(InputError, match="No space left"):
            chats.save("talk", more, turn.handle.snapshots)
        assert chats.open("talk").session == session
    assert [path.name for path in tmp_path.iterdir()] == ["talk.session"]


def test_leftovers_of_killed_processes_go(tmp_path: Path) -> None:
    """Oracle: by hand: temporary files of an hour ago go with the first saving; fresh ones, and all others, stay."""
    model = chat_model("mamba")
    with model.engine(limits=LIMITS) as engine:
        chats = Chats(model, engine, SessionStore(tmp_path), "tiny")
        names = [".a.session.0123456789ab", ".b.session.0123456789ab", "notes", ".hidden"]
        for name in names:
            (tmp_path / name).touch()
            if name != names[1]:
                os.utime(tmp_path / name, (1, 1))
        session, turn = answered(chats, Session(), "one")
        chats.save("kept", session, turn.handle.snapshots)
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], "kept.session"}


def test_what_is_saved_is_bounded() -> None:
    """Oracle: the number of states; the end stays, and the others are farther apart towards the beginning."""
    snapshots = [Snapshot(tuple(range(n)), row(n)) for n in range(1, 4000, 37)]
    kept = [len(state.ids) for state in thinned(snapshots)]
    assert len(kept) == RUNGS + 1
    assert kept[-1] == len(snapshots[-1].ids)
    apart = [b - a for a, b in pairwise(kept)]
    assert apart == sorted(apart, reverse=True)
    assert thinned(snapshots[:3]) == snapshots[:3]
    assert thinned([]) == []
