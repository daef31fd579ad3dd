"""Damaged JSON in files of every kind ends in one sentence, and spoils no listing."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from braidlm.errors import CheckpointError, InputError, StateError, named, quoted
from braidlm.server.session_routes import SessionList, _reply
from braidlm.sessions import Session, SessionStore
from braidlm.sessions.session import FORMAT, session_of
from braidlm.state.state_file import _own_digest, digest_of
from braidlm.system.files import parse_json, read_object, regular_file
from braidlm.train.data import manifest
from braidlm.train.data.manifest import Manifest

DEEP = "[" * 5000 + "]" * 5000
HEADER = {
    "format": FORMAT,
    "model": "tiny",
    "tokens": "0",
    "messages": json.dumps([{"role": "user", "content": "hello"}]),
    "text": '""',
    "message_ends": "[[3, 1]]",
    "sampling": "null",
    "created": "1.5",
    "updated": "2.5",
}
DAMAGES = {
    "a number for a message": {"messages": "[5]"},
    "a message without a role": {"messages": "[{}]"},
    "a role that is a list": {"messages": '[{"role": []}]'},
    "messages that are an object": {"messages": "{}"},
    "deep messages": {"messages": DEEP},
    "deep text": {"text": DEEP},
    "half a character": {"messages": '[{"role": "user", "content": "\\ud800"}]'},
    "no number": {"messages": '[{"role": "user", "content": NaN}]'},
    "an end of 1e400": {"message_ends": "[[1e400, 1]]"},
    "an end of half": {"message_ends": "[[1.5, 1]]"},
    "an end without ids": {"message_ends": "[[1]]"},
    "ends that are a number": {"message_ends": "7"},
    "deep ends": {"message_ends": DEEP},
    "a number of 6,000 digits": {"message_ends": "[[" + "9" * 6000 + ", 1]]"},
    "sampling that is a list": {"sampling": "[]"},
    "sampling of another time": {"sampling": '{"stop": [], "warmth": 2}'},
    "sampling out of bounds": {"sampling": '{"stop": [], "temperature": 1e400}'},
    "deep sampling": {"sampling": DEEP},
    "a time without end": {"updated": "1e400"},
    "a time that is none": {"created": "nan"},
    "a time far away": {"created": "1e18"},
    "tokens in words": {"tokens": "many"},
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_session(name: str, tmp_path: Path) -> None:
    """Oracle: the session beside it, which is listed as before, in text and as the server's JSON."""
    store = SessionStore(tmp_path)
    for file, changes in (("good", {}), ("bad", DAMAGES[name])):
        header, tensors = HEADER | changes, {"ids": torch.zeros(0)}
        # With digests that are right, so that a refusal is for what was changed.
        header |= {"digest": digest_of(header, tensors), "header_digest": _own_digest(header)}
        save_file(tensors, tmp_path / f"{file}.session", header)
    found = store.all()
    assert [(about.name, about.title) for about in found] == [("good", "hello")]
    SessionList(data=[_reply(about, "") for about in found]).model_dump_json()
    with pytest.raises(StateError, match=r"bad\.session is damaged: ") as caught:
        store.summary("bad")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_session_without_a_part(tmp_path: Path) -> None:
    """Oracle: the header above, which is whole, and the sentence for each part that it lacks."""
    assert session_of(HEADER, tmp_path).messages == [{"role": "user", "content": "hello"}]
    assert session_of(HEADER | {"messages": "[]", "message_ends": "[]"}, tmp_path) == Session(created=1.5, updated=2.5)
    for part in HEADER.keys() - {"format", "model", "tokens"}:
        with pytest.raises(StateError, match="is damaged"):
            session_of({key: value for key, value in HEADER.items() if key != part}, tmp_path)


def test_read_object(tmp_path: Path) -> None:
    """Oracle: by hand: a byte-order mark is no part of the JSON; everything else is one sentence in the wanted type."""
    file = tmp_path / "a.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa9"}')
    assert read_object(file, CheckpointError) == {"a": "é"}
    file.write_bytes(b'{"a": [1, "x"], "a": [1, "x"], "b": Infinity, "c": {"a": 0, "d": -Infinity}}')
    assert read_object(file, CheckpointError) == {"a": [1, "x"], "b": math.inf, "c": {"a": 0, "d": -math.inf}}
    for content, words in (
        (b"", "no readable JSON"),
        (b"{", "no readable JSON"),
        (b"[]", "does not hold a JSON object"),
        (b'{"a": \xff}', "no readable JSON"),
        (DEEP.encode(), "nested too deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no readable JSON"),
        (b'{"a": NaN}', "it has NaN for a number"),
        (b'{"a": [1, -1e400]}', "the number -1e400 is beyond"),
        (b'{"a": 1, "b": 2, "a": 3}', "it says 'a' twice, and not the same"),
        (b'{"a": 1, "a": 1.0}', "it says 'a' twice, and not the same"),
    ):
        file.write_bytes(content)
        refused(file, words)
    with pytest.raises(InputError, match=r"a\.json is no readable JSON: it has more than 0 MiB"):
        read_object(file, InputError, most=10)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "round").symlink_to("round")
    refused(tmp_path / "pipe", "no regular file")
    refused(tmp_path / "zero", "no regular file")
    refused(tmp_path / "round", "no readable JSON")
    refused(tmp_path, "it is a directory")
    refused(tmp_path / "none", "does not exist")
    refused(tmp_path / ("x" * 5000), "no readable JSON")
    refused(tmp_path / "nul\0", "no readable JSON")
    with pytest.raises(InputError, match=r"^make it first$"):
        read_object(tmp_path / "none", InputError, missing="make it first")


def test_regular_file(tmp_path: Path) -> None:
    """Oracle: by hand: files and links to them are, what would be waited for or never ends is not."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert regular_file(tmp_path / "link") == tmp_path / "link"
    assert regular_file(str(tmp_path / "file")) == tmp_path / "file"
    os.mkfifo(tmp_path / "pipe")
    for place, words in ((tmp_path, "a directory"), (tmp_path / "pipe", "no regular"), ("/dev/zero", "no regular")):
        with pytest.raises(ValueError, match=words):
            regular_file(place)
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        regular_file(tmp_path / "dangling")


def refused(path: Path, words: str) -> None:
    """Reading ends in one sentence with these words."""
    with pytest.raises(CheckpointError, match=words) as caught:
        read_object(path, CheckpointError)
    assert "\n" not in str(caught.value)


def test_depth_is_a_value_error() -> None:
    """Oracle: the sentence; and a depth that a config has."""
    assert parse_json("[" * 50 + "]" * 50)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json(DEEP)


MANIFEST: dict[str, Any] = {
    "version": manifest.VERSION,
    "tokenizer": "a",
    "vocabulary": 300,
    "dtype": "<u2",
    "kind": "text",
    "field": "text",
    "holdout": 0.0,
    "tokens": 10,
    "documents": 1,
    "skipped": 0,
    "skips": [],
    "sources": [{"name": "a.txt", "unit": "file", "size": 10, "sha256": "b"}],
    "shards": [{"tokens": 10, "documents": 1, "masked": False}],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "x"}, "its dtype is 'x', but must be one of <u2, <u4"),
        ({"dtype": "<f8"}, "its dtype"),
        ({"dtype": ["<u2"]}, "its dtype"),
        ({"shards": []}, "it lists no shards"),
        ({"shards": [3]}, "is damaged"),
        ({"shards": 3}, "is damaged"),
        ({"shards": [{"tokens": 10**30, "documents": 1, "masked": False}]}, "'tokens' is 1000"),
        ({"shards": [{"tokens": 10, "documents": -1, "masked": False}]}, "'documents' is -1"),
        ({"shards": [{"tokens": 10, "documents": 1, "masked": "no"}]}, "'masked' is 'no'"),
        ({"sources": [{"name": 5, "unit": "file", "size": 10, "sha256": "b"}]}, "'name' is 5"),
        ({"tokens": 1e400}, "'tokens' is inf"),
        ({"vocabulary": "many"}, "'vocabulary' is 'many'"),
        ({"holdout": "half"}, "'holdout' is 'half'"),
        ({"holdout": float("nan")}, "it has NaN for a number"),
        ({"tokenizer": None}, "'tokenizer' is None"),
        ({"skips": 3}, "is damaged"),
        ({"kind": "x" * 100_000, "tokens": "y" * 100_000}, "is damaged"),
    ],
)
def test_damaged_manifest(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Oracle: the sentence by hand; and the manifest without the change, which is read."""
    (tmp_path / manifest.FILE).write_text(json.dumps(MANIFEST))
    assert Manifest.read(tmp_path).shards[0].tokens == 10
    (tmp_path / manifest.FILE).write_text(json.dumps(MANIFEST | change))
    with pytest.raises(InputError) as caught:
        Manifest.read(tmp_path)
    assert words in str(caught.value)
    assert "manifest.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_quotes_are_cut() -> None:
    """Oracle: by hand."""
    assert quoted("a" * 10) == "'aaaaaaaaaa'"
    assert quoted("a" * 100_000) == "'" + "a" * 199 + "...'"
    assert named(["a", "b"]) == "a, b"
    assert named(list("abcdefgh"), 3) == "a, b, c and 5 more"
    assert named(["x" * 1000]) == "x" * 77 + "..."
