"""Files in a directory of sessions that are none: each is named in one sentence, and spoils nothing else."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from braidlm.cli.main import app
from braidlm.errors import InputError, StateError
from braidlm.sessions import Session, SessionExistsError, SessionStore
from braidlm.state import state_file
from braidlm.state.state_file import Owner, digest_of
from braidlm.system import safetensors_file
from tests.server.local import model as served_model
from tests.server.local import serving
from tests.sessions.chats import LIMITS, chat_model

DEEP = "[" * 5000 + "]" * 5000
GREETING = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def owner() -> Iterator[Owner]:
    with chat_model("mamba").engine(limits=LIMITS) as engine:
        yield engine.owner


def saved(store: SessionStore, owner: Owner, name: str) -> Path:
    store.save(name, Session(GREETING, "hello", (1, 2, 3), (), None, 1.0, 2.0), (), owner, "tiny")
    return store.path(name)


def rewritten(path: Path, believed: bool, **about: str) -> None:
    """Writes a session's file with another header, its digests right or as they were."""
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata() | about, {"ids": file.get_tensor("ids").clone()}
    if believed:
        header["header_digest"] = state_file._own_digest(header)
        header["digest"] = digest_of(header, tensors)
    save_file(tensors, path, header)


HEADERS = {
    "a number for a message": {"messages": "[5]"},
    "deep messages": {"messages": DEEP},
    "messages as deep as Python reads them": {"messages": '[{"role": "user", "x": ' + "[" * 400 + "]" * 400 + "}]"},
    "a message end of 1e400": {"message_ends": "[[1e400, 1]]"},
    "no number": {"messages": '[{"role": "user", "content": NaN}]'},
    "biases that are a text": {"sampling": '{"stop": [], "logit_bias": "x"}'},
    "sampling in a list of lists": {"sampling": "[[]]"},
    "tokens of 6,000 digits": {"tokens": "9" * 6000},
}


def make_socket(path: Path) -> None:
    """A socket's name; what is bound is closed again, its name stays."""
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # names of sockets are short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


PLACES: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "nowhere": lambda path: path.symlink_to("nowhere"),
    "round": lambda path: path.symlink_to(path.name),
    "far": lambda path: path.symlink_to("/".join(["x" * 200] * 20)),
    "directory": Path.mkdir,
    "socket": make_socket,
    "empty": Path.touch,
    "text": lambda path: path.write_text("hello"),
    "endless": lambda path: path.write_bytes((1 << 62).to_bytes(8, "little") + b"{"),
    "vast": lambda path: os.truncate(path, 1 << 40) if path.write_bytes(b"\xff" * 8) else None,
}


def spoiled(store: SessionStore, owner: Owner) -> set[str]:
    """Fills a directory with two good sessions and everything bad; the names of the bad ones."""
    saved(store, owner, "good")
    names = set(PLACES)
    for name, make in PLACES.items():
        make(store.directory / f"{name}.session")
    for number, (_, about) in enumerate(HEADERS.items()):
        for believed in (False, True):
            name = f"header-{number}-{believed}"
            rewritten(saved(store, owner, name), believed, **about)
            names.add(name)
    saved(store, owner, "good-too")
    return names


def test_a_listing_names_what_it_leaves_out(tmp_path: Path, owner: Owner) -> None:
    """Oracle: by hand: the good ones are listed, every bad one has a sentence, and one for who opens it."""
    store = SessionStore(tmp_path)
    bad = spoiled(store, owner)
    found = store.listing()
    assert {about.name for about in found.sessions} == {"good", "good-too"}
    assert {name for name, _ in found.unreadable} == bad
    for name, reason in found.unreadable:
        assert f"{name}.session" in reason
        assert "\n" not in reason
        assert len(reason) < 800
        with pytest.raises(StateError, match=r"damaged|no state file"):
            store.load(name, owner)
        with pytest.raises(StateError, match=r"damaged|no state file"):
            store.fork(name, "fork")
        with pytest.raises(SessionExistsError):
            store.save(name, Session(GREETING), (), owner, "", new=True)
    for name in bad - {"directory"}:
        store.delete(name)
    with pytest.raises(InputError, match="cannot delete session directory"):
        store.delete("directory")
    assert [name for name, _ in store.listing().unreadable] == ["directory"]


def test_no_permission(tmp_path: Path, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: one sentence for a file that may not be opened, and for a directory that may not be read."""
    store = SessionStore(tmp_path)
    paths = [saved(store, owner, name) for name in ("good", "secret")]
    opened = safetensors_file.safe_open

    def refusing(path: Any, **more: Any) -> Any:
        if Path(path) == paths[1]:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, **more)

    monkeypatch.setattr(safetensors_file, "safe_open", refusing)  # the tests may run as root, who may open everything
    found = store.listing()
    assert [about.name for about in found.sessions] == ["good"]
    assert [(name, "Permission denied" in reason) for name, reason in found.unreadable] == [("secret", True)]

    def closed(_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"cannot read .*: Permission denied"):
        store.listing()


def test_every_damaged_bit_of_a_header_is_seen(tmp_path: Path, owner: Owner) -> None:
    """Oracle: the listing of the whole file: with a bit turned it is the same, or the file is named as damaged."""
    store = SessionStore(tmp_path)
    path = saved(store, owner, "talk")
    whole, data = store.summary("talk"), path.read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    same = 0
    for place in range(0, size, 5):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        found = store.listing()
        assert len(found.sessions) + len(found.unreadable) == 1
        assert found.sessions in ([], [whole])
        same += len(found.sessions)
    # In what the listing does not tell: the digest of the whole file, the tensors' places, and blanks at the end.
    assert same < size / 5 / 4


def test_the_server_and_the_command_line(tmp_path: Path, owner: Owner) -> None:
    """Oracle: by hand: good sessions are listed, each bad one has a sentence beside them, and 400 where asked for."""
    store = SessionStore(tmp_path)
    bad = spoiled(store, owner)
    with serving(served_model(), tmp_path) as server:
        server.post("/v1/sessions", {"id": "new"})
        found = server.get("/v1/sessions").json()
        assert {item["id"] for item in found["data"]} == {"good", "good-too", "new"}
        assert {item["id"] for item in found["unreadable"]} == bad
        for name in ("pipe", "device", "nowhere", "header-1-True"):
            answers = [
                server.get(f"/v1/sessions/{name}"),
                server.post("/v1/chat/completions", {"session": name, "messages": GREETING, "max_tokens": 1}),
                server.post(f"/v1/sessions/{name}/fork", {"id": "fork"}),
            ]
            for answer in answers:
                assert answer.status_code == 400
                assert f"{name}.session" in answer.json()["error"]["message"]
            assert server.post("/v1/sessions", {"id": name}).status_code == 409
            assert httpx2.delete(f"{server.url}/v1/sessions/{name}").status_code == 200
    done = CliRunner().invoke(app, ["session", "list", "--sessions", str(tmp_path), "--json"])
    assert done.exit_code == 0
    assert {about["name"] for about in json.loads(done.stdout)} == {"good", "good-too", "new"}
    assert len(done.stderr.splitlines()) == len(bad) - 4
    assert all(line.startswith("braid: ") for line in done.stderr.splitlines())


def test_deep_messages_are_not_stored(tmp_path: Path, owner: Owner) -> None:
    """Oracle: what is stored can be read: 150 levels are, 250 are refused when they are to be stored."""
    store = SessionStore(tmp_path)

    def nested(depth: int) -> list[dict[str, Any]]:
        content: Any = "hello"
        for _ in range(depth):
            content = [content]
        return [{"role": "user", "content": content}]

    store.save("deep", Session(nested(150)), (), owner, "")
    assert store.summary("deep").messages == nested(150)
    with pytest.raises(InputError, match="nested more than 200 deep"):
        store.save("deeper", Session(nested(250)), (), owner, "")
    assert store.names() == ["deep"]
