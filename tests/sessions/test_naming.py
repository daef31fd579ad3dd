"""Names of sessions that several threads and processes want at once, and processes that end while they take one."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from braidlm.errors import InputError
from braidlm.sessions import (
    Chats,
    NoSessionError,
    Session,
    SessionChangedError,
    SessionExistsError,
    SessionStore,
)
from braidlm.state.state_file import Owner
from tests.sessions.chats import LIMITS, chat_model

MANY = 16
NAMES = 12
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chats]:
    model = chat_model("mamba")
    with model.engine(limits=LIMITS) as engine:
        yield Chats(model, engine, SessionStore(tmp_path_factory.mktemp("sessions")), "tiny")


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path)


@pytest.fixture
def owner(chats: Chats) -> Owner:
    return chats.engine.owner


def said(text: str) -> Session:
    return Session([{"role": "user", "content": text}])


def words(store: SessionStore, name: str) -> str:
    return str(store.summary(name).messages[0]["content"])


def together(work: Callable[[int], None], many: int = MANY) -> list[Any]:
    """What came of each: None, or what was raised."""
    ready = threading.Barrier(many)

    def one(number: int) -> Any:
        ready.wait()
        try:
            work(number)
        except InputError as error:
            return error
        except NoSessionError as error:
            return error
        return None

    with ThreadPoolExecutor(many) as pool:
        return list(pool.map(one, range(many)))


def require_one_winner(found: list[Any], name: str) -> int:
    assert found.count(None) == 1
    for error in found:
        assert error is None or type(error) is SessionExistsError
        assert error is None or str(error) == f"there is a session {name} already"
    return found.index(None)


def test_one_of_many_threads_creates(store: SessionStore, owner: Owner) -> None:
    """Oracle: the words of the one that was told that it had succeeded; nothing else lies in the directory."""
    found = together(lambda n: void(store.save("talk", said(str(n)), (), owner, "", new=True)))
    assert words(store, "talk") == str(require_one_winner(found, "talk"))
    assert [path.name for path in store.directory.iterdir()] == ["talk.session"]


def void(_: object) -> None:
    """For what gives something that nobody wants."""


def test_one_of_many_threads_forks(chats: Chats) -> None:
    """Oracle: as of creations, of whole sessions and of beginnings in turn."""
    store = chats.store
    assert store is not None
    for number in range(MANY):
        chats.save(f"of-{number}", said(str(number)), ())
    found = together(lambda n: chats.fork(f"of-{n}", "fork", 1 if n % 2 else None))
    assert words(store, "fork") == str(require_one_winner(found, "fork"))


def test_without_links(store: SessionStore, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same where the file system has no hard links; the session that was forked stays."""

    def none(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    found = together(lambda n: void(store.save("talk", said(str(n)), (), owner, "", new=True)))
    first = words(store, "talk")
    assert first == str(require_one_winner(found, "talk"))
    require_one_winner(together(lambda n: store.fork("talk", "fork")), "fork")
    assert words(store, "fork") == words(store, "talk") == first
    assert sorted(store.names()) == ["fork", "talk"]


def _create_all(directory: Path, who: str, start: Any, told: Any) -> None:
    """A process that wants all names, and then ends as by a power cut, just before or after a last one is given."""
    link, won = os.link, []

    def ending(source: Path, target: Path) -> None:
        if who == "after":
            link(source, target)
        os._exit(9)

    with chat_model("mamba").engine(limits=LIMITS) as engine:
        store = SessionStore(directory)
        start.wait()
        for number in range(NAMES):
            try:
                store.save(f"talk-{number}", said(who), (), engine.owner, "", new=True)
                won.append(number)
            except SessionExistsError:
                continue
        told.put((who, won))
        told.close()
        told.join_thread()
        os.link = ending  # type: ignore[assignment]
        store.save(f"cut-{who}", said("cut"), (), engine.owner, "", new=True)


def test_processes(tmp_path: Path, owner: Owner) -> None:
    """Oracle: what two processes say that they have created; where they end meanwhile, all of a session or nothing."""
    start, told = SPAWN.Barrier(2), SPAWN.Queue()
    racing = [SPAWN.Process(target=_create_all, args=(tmp_path, who, start, told)) for who in ("before", "after")]
    for process in racing:
        process.start()
    won = dict(told.get() for _ in racing)
    for process in racing:
        process.join()
    assert [process.exitcode for process in racing] == [9, 9]
    assert sorted([*won["before"], *won["after"]]) == list(range(NAMES))
    store = SessionStore(tmp_path)
    assert {n for n in range(NAMES) if words(store, f"talk-{n}") == "after"} == set(won["after"])
    assert {name for name in store.names() if name.startswith("cut")} == {"cut-after"}
    assert words(store, "cut-after") == "cut"
    store.save("cut-before", said("again"), (), owner, "", new=True)
    with pytest.raises(SessionExistsError):
        store.save("cut-after", said("again"), (), owner, "", new=True)
    assert (words(store, "cut-before"), words(store, "cut-after")) == ("again", "cut")


def test_what_was_changed_elsewhere_stays(store: SessionStore, owner: Owner) -> None:
    """Oracle: by hand: a turn that began before a change or a deletion by another process undoes neither."""
    read = store.save("talk", said("one"), (), owner, "")
    again = store.save("talk", said("two"), (), owner, "", instead_of=read)
    assert (words(store, "talk"), again) == ("two", store.stamp("talk"))
    with pytest.raises(SessionChangedError, match="session talk was changed or deleted elsewhere"):
        store.save("talk", said("three"), (), owner, "", instead_of=read)
    assert words(store, "talk") == "two"
    store.delete("talk")
    with pytest.raises(SessionChangedError, match="talk"):
        store.save("talk", said("three"), (), owner, "", instead_of=again)
    assert list(store.directory.iterdir()) == []


def test_forks_beside_deletions(store: SessionStore, owner: Owner) -> None:
    """Oracle: each fork is whole or told that there is no such session; each deletion but one is told the latter."""
    for number in range(5):
        store.save("talk", said("hello"), (), owner, "")

        def work(n: int, number: int = number) -> None:
            store.delete("talk") if n % 2 else store.fork("talk", f"fork-{number}-{n}")

        found = together(work)
        assert found[1::2].count(None) == 1
        assert all(error is None or type(error) is NoSessionError for error in found)
        assert {f"fork-{number}-{n}" for n in range(0, MANY, 2) if found[n] is None} == {
            name for name in store.names() if name.startswith(f"fork-{number}-")
        }
    assert all(words(store, name) == "hello" for name in store.names())
