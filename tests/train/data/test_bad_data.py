"""What is wrong with data ends in one sentence with its place, or is skipped and counted where that is asked for."""

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models

from braidlm.errors import InputError, UnavailableError
from braidlm.text.tokenizer import Settings, Tokenizer
from braidlm.train.data.build import build
from braidlm.train.data.documents import Piece
from braidlm.train.data.entry import ENTRY
from braidlm.train.data.recipe import Recipe
from braidlm.train.data.shards import Shards
from tests.text.made import SPECIAL, TEMPLATE, backend, byte_level
from tests.train.data.made import json_lines, read_back, texts

GOOD = b'{"text": "good"}\n'
CHAT = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


def chat(*messages: tuple[str, Any]) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in messages]}).encode()


BAD_LINES = {
    "broken": ("jsonl", b'{"text": "a"', "line 2: is no valid JSON: Expecting ',' delimiter"),
    "deep": ("jsonl", b'{"text": ' + b"[" * 100_000, "line 2: is no JSON that can be read: it is nested too deeply"),
    "number": ("jsonl", b'{"text": 1' + b"0" * 5000 + b"}", "line 2: is no valid JSON: Exceeds the limit"),
    "missing": ("jsonl", b'{"a": 1, "b": 2}', r"line 2: lacks the field 'text' \(its fields: a, b\)"),
    "null": ("jsonl", b'{"text": null}', r"line 2: lacks the field 'text' \(its fields: text\)"),
    "list": ("jsonl", b"[1]", "line 2: holds list, but must hold an object with the field 'text'"),
    "kind": ("jsonl", b'{"text": ["a"]}', "line 2: holds list .* where a text must be"),
    "empty": ("jsonl", b'{"text": " "}', "line 2: is empty"),
    "surrogate": (
        "jsonl",
        b'{"text": "\\ud800"}',
        "line 2: the text is no valid Unicode: it holds half",
    ),
    "bytes": ("jsonl", b'{"text": "\xff"}', "line 2: is no text in UTF-8: invalid start byte at byte 27"),
    "role": ("chat", chat(("bot", "a")), "line 2: has message 1 with the role 'bot', but it must be one of system,"),
    "content": ("chat", chat(("assistant", None)), "line 2: has message 1 of the assistant without a content"),
    "answer": ("chat", chat(("user", "a")), "line 2: is a conversation without a message of the assistant's"),
    "no list": ("chat", b'{"messages": "a"}', "line 2: holds str 'a' where a list of messages must be"),
    "none": ("chat", b'{"messages": []}', "line 2: holds no messages"),
}


def check(place: Path, sources: list[Path], recipe: dict[str, Any], sentence: str, good: int) -> None:
    """An error with this sentence; or skipped, with the same sentence, and all good documents there."""
    with pytest.raises(InputError, match=sentence) as caught:
        build(place / "out", sources, byte_level(), Recipe(**recipe))
    assert "\n" not in str(caught.value)
    shards = build(place / "out", sources, byte_level(), Recipe(**recipe, on_bad_documents="skip"))
    assert len(shards.training) == good
    assert shards.manifest.skipped == 1
    assert shards.manifest.skips == (str(caught.value),)


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_lines(name: str, tmp_path: Path) -> None:
    """Oracle: sentences by hand; and the lines around it."""
    kind, line, sentence = BAD_LINES[name]
    good = GOOD if kind == "jsonl" else CHAT
    (tmp_path / "a.jsonl").write_bytes(good + line + b"\n" + good)
    check(tmp_path, [tmp_path / "a.jsonl"], {"kind": kind}, rf"a\.jsonl, {sentence}", 2)


def test_bad_texts(tmp_path: Path) -> None:
    """Oracle: sentences by hand, for files of texts."""
    (tmp_path / "good.txt").write_text("good")
    for name, content, sentence in (
        ("a.txt", b"", "is empty"),
        ("b.txt", b" \n", "is empty"),
        ("c.txt", b"good\xe9\n", "is no text in UTF-8: invalid continuation byte at byte 4"),
    ):
        (tmp_path / name).write_bytes(content)
        place = tmp_path / f"of {name}"
        check(place, [tmp_path / name, tmp_path / "good.txt"], {}, rf"^\S+{name}: {sentence}$", 1)
    (tmp_path / "d.txt").write_bytes("é\n--\nx\n--\n\né".encode() + b"\xff\n--\nz")
    check(tmp_path, [tmp_path / "d.txt"], {"separator": "\n--\n"}, r"d\.txt, line 5: is no .* at byte 14", 3)


def test_bad_parquet(tmp_path: Path) -> None:
    """Oracle: sentences by hand: no such file, no such column, no row, an empty cell, a damaged page."""
    good = tmp_path / "good.parquet"
    pq.write_table(pa.table({"text": ["good"]}), good)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    pq.write_table(pa.table({"a": ["x"], "b": ["y"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "c.parquet")
    for name, sentence in (
        ("a", "is no readable Parquet file: .*"),
        ("b", r".* 'text' \(its columns: a, b\)"),
        ("c", "is empty"),
    ):
        path = tmp_path / f"{name}.parquet"
        check(tmp_path / name, [path, good], {"kind": "parquet"}, rf"{name}\.parquet: {sentence}$", 1)
    pq.write_table(pa.table({"text": ["x", None, "y"]}), tmp_path / "d.parquet")
    check(
        tmp_path / "d", [tmp_path / "d.parquet"], {"kind": "parquet"}, r"d\.parquet, row 2: lacks the field 'text'", 2
    )
    pq.write_table(pa.table({"text": texts(400)}), tmp_path / "e.parquet", row_group_size=100)
    data = bytearray((tmp_path / "e.parquet").read_bytes())
    data[20:60] = bytes(40)
    (tmp_path / "e.parquet").write_bytes(data)
    check(
        tmp_path / "e", [tmp_path / "e.parquet"], {"kind": "parquet"},
        r"e\.parquet, row 1: cannot be read, nor what follows in its group: ", 300,
    )  # fmt: skip


def test_bad_datasets(tmp_path: Path) -> None:
    """Oracle: sentences by hand: one that is not there, a part that it lacks, a row without the field."""
    recipe = {"kind": "dataset"}
    with pytest.raises(InputError, match=r"dataset .*nowhere cannot be read: "):
        build(tmp_path / "out", [tmp_path / "nowhere"], byte_level(), Recipe(**recipe))
    datasets.DatasetDict({"train": datasets.Dataset.from_list([{"text": "x"}, {"text": None}])}).save_to_disk(
        tmp_path / "a"
    )
    with pytest.raises(InputError, match=r"dataset .*a cannot be read: .*test"):
        build(tmp_path / "out", [tmp_path / "a"], byte_level(), Recipe(**recipe, split="test"))
    check(tmp_path, [tmp_path / "a"], recipe, "a, row 2: lacks the field 'text'", 1)


def test_packages_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: sentences by hand."""
    (tmp_path / "a.parquet").touch()
    for package, kind, sentence in (
        (
            "pyarrow.parquet",
            "parquet",
            r"Parquet needs the package pyarrow; pip install '.\[train\]' in a clone of braidlm gets it",
        ),
        ("datasets", "dataset", "this needs the package datasets; pip install datasets gets it"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UnavailableError, match=f"^{sentence}$"):
            build(tmp_path / "out", [tmp_path / "a.parquet"], byte_level(), Recipe(kind=kind))


def test_nothing_at_all(tmp_path: Path) -> None:
    """Oracle: sentences by hand; and settings that can be changed, as nothing was made."""
    with pytest.raises(InputError, match="there are no sources; name files"):
        build(tmp_path / "out", [], byte_level(), Recipe())
    (tmp_path / "a.jsonl").write_bytes(b"\n\n")
    with pytest.raises(InputError, match=r"^the sources hold no document$"):
        build(tmp_path / "out", [tmp_path / "a.jsonl"], byte_level(), Recipe(kind="jsonl"))
    (tmp_path / "a.jsonl").write_bytes(b"x\n" + GOOD)
    with pytest.raises(InputError, match=r"^the sources hold no document; the first of 2: .*a\.jsonl, line 1: is no"):
        build(tmp_path / "out", [tmp_path / "a.jsonl"], byte_level(), Recipe(kind="chat", on_bad_documents="skip"))
    assert read_back(
        build(tmp_path / "out", [tmp_path / "a.jsonl"], byte_level(), Recipe(kind="jsonl", on_bad_documents="skip"))
    )


def test_a_full_disk(tmp_path: Path) -> None:
    """Oracle: a sentence; the shards before are whole, nothing else is left, and the run goes on when there is room."""
    rows = [{"text": text} for text in texts(20)] + [{"text": "long " * 2000}]
    source, out = json_lines(tmp_path / "a.jsonl", rows), tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write \S+/out/\d+\.tokens: File too large"):
            build(out, [source], byte_level(), Recipe(kind="jsonl"), shard_bytes=500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(out.glob("*.tokens")) and not list(out.glob(".*"))
    shards = build(out, [source], byte_level(), Recipe(kind="jsonl"), shard_bytes=500)
    assert [text for _, text in read_back(shards)] == [row["text"] for row in rows]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    source = json_lines(tmp_path / "a.jsonl", [{"text": text} for text in texts(20)])
    build(tmp_path / "out", [source], byte_level(), Recipe(kind="jsonl"), shard_bytes=500)
    return tmp_path / "out"


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def of_version_2(path: Path) -> None:
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))


def without_dtype(path: Path) -> None:
    found = json.loads(path.read_text())
    del found["dtype"]
    path.write_text(json.dumps(found))


def more_tokens(path: Path) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"tokens": found["tokens"] + 1}))


def backwards(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[-32:] + data[32:-32] + data[:32])


def with_entry(**changes: int) -> Callable[[Path], None]:
    """Sets parts of an index's first entry."""

    def change(path: Path) -> None:
        index_N = np.fromfile(path, ENTRY)
        for name, value in changes.items():
            index_N[0][name] = value
        path.write_bytes(index_N.tobytes())

    return change


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [
    ("00001.index", with_entry(shard=0), r"00001\.index is damaged: it holds documents of another shard"),
    ("00001.index", with_entry(source=1), r"00001\.index is damaged: it names a source that the manifest does not"),
    ("00001.index", with_entry(source=-1), r"00001\.index is damaged: it names a source that the manifest does not"),
    ("00001.index", with_entry(line=-5), r"00001\.index is damaged: it names a line before the first"),
    ("00001.tokens", as_pipe, r"00001\.tokens cannot be read: it is no regular file"),
    ("00001.index", as_pipe, r"00001\.index cannot be read: it is no regular file"),
    ("00001.tokens", shorter, r"00001\.tokens is damaged: it has \d+ bytes instead of \d+; tokenize the sources again"),
    ("00001.index", shorter, r"00001\.index is damaged: it has \d+ bytes instead of \d+"),
    ("00001.index", backwards, r"00001\.index is damaged: its documents do not make up its tokens"),
    ("00000.tokens", Path.unlink, r"00000\.tokens cannot be read: No such file or directory; tokenize"),
    ("manifest.json", of_version_2, r"manifest\.json is of version 2; this version reads 1"),
    ("manifest.json", more_tokens, r"manifest\.json is damaged: its 'tokens' is \d+, but its shards have \d+"),
    ("manifest.json", without_dtype, r"manifest\.json is damaged: .*'dtype'"),
    ("manifest.json", shorter, r"manifest\.json is no readable JSON"),
    ("manifest.json", Path.unlink, r"out holds no finished data: it has no manifest\.json"),
]


@pytest.mark.parametrize(("name", "damage", "sentence"), DAMAGES)
def test_damaged_shards(name: str, damage: Callable[[Path], None], sentence: str, made: Path) -> None:
    """Oracle: sentences by hand."""
    Shards(made, byte_level())
    damage(made / name)
    with pytest.raises(InputError, match=sentence):
        Shards(made, byte_level())


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("00001.tokens", one_bit), ("00001.index", with_entry(hash=1))],
)
def test_tokens_that_are_not_those_written(name: str, damage: Callable[[Path], None], made: Path) -> None:
    """Oracle: the sentence, when the shard is used; the shards beside it are read as before."""
    shards = Shards(made, byte_level())
    first = shards.training.pack([Piece(0, 0, 5)], continues=False)
    damage(made / name)
    shards = Shards(made, byte_level())
    ends = np.cumsum([shard.documents for shard in shards.manifest.shards])
    assert shards.training.pack([Piece(0, 0, 5)], continues=False).ids_T.tolist() == first.ids_T.tolist()
    with pytest.raises(InputError, match=r"00001\.tokens is damaged: its tokens from \d+ on are not those that were"):
        shards.training.pack([Piece(int(ends[0]), 0, 1), Piece(int(ends[1]) - 1, 0, 1)], continues=False)


def test_flags_that_are_none(tmp_path: Path) -> None:
    """Oracle: the sentence: a flag is 0 or 1."""
    talk = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    source = json_lines(tmp_path / "a.jsonl", [talk])
    shards = build(tmp_path / "out", [source], byte_level(), Recipe(kind="chat"))
    shards.training.pack([Piece(0, 0, 1)], continues=False)
    flags = tmp_path / "out" / "00000.trained"
    flags.write_bytes(b"\2" + flags.read_bytes()[1:])
    with pytest.raises(InputError, match=r"00000\.trained is damaged: it says neither yes nor no of a token"):
        Shards(tmp_path / "out", byte_level()).training.pack([Piece(0, 0, 1)], continues=False)


def test_foreign_tokenizer(made: Path) -> None:
    """Oracle: a sentence by hand, for a vocabulary that differs in one token."""
    other = Backend.from_str(backend().to_str())
    other.add_special_tokens(["<other>"])
    with pytest.raises(InputError, match=r"tokenized with another vocabulary \(of 299 tokens, this one has 300\)"):
        Shards(made, Tokenizer(other, Settings({})))


def test_tokenizers_that_do_not_do(tmp_path: Path) -> None:
    """Oracle: sentences by hand, before anything is written."""
    for tokenizer, recipe, sentence in (
        (Tokenizer(backend(), Settings({})), Recipe(), "does not say which token ends a text; name a control token"),
        (Tokenizer(backend(), Settings({})), Recipe(kind="chat"), "has no chat template"),
        (byte_level(), Recipe(eos_token="fox"), "the tokenizer has no control token 'fox' to end documents with"),
        (byte_level(), Recipe(eos_token="a"), "the tokenizer has no control token 'a' to end documents with"),
        (Tokenizer(Backend(models.BPE()), Settings({}, TEMPLATE)), Recipe(), "does not say which token ends"),
    ):
        with pytest.raises(InputError, match=sentence):
            build(tmp_path / "out", [tmp_path / "nothing"], tokenizer, recipe)
    assert not (tmp_path / "out").exists()


def test_another_end(tmp_path: Path) -> None:
    """Oracle: the token's id by hand."""
    (tmp_path / "a.txt").write_text("<|im_end|>")
    shards = build(tmp_path / "out", [tmp_path / "a.txt"], byte_level(), Recipe(eos_token=SPECIAL[0]))
    ids = shards.training.pack([Piece(0, 0, shards.training.tokens)], False).ids_T.tolist()
    assert ids[-1] == 0 and byte_level().id_of("<|im_end|>") not in ids


def test_settings(tmp_path: Path) -> None:
    """Oracle: sentences by hand."""
    with pytest.raises(InputError, match="a separator is for text files, and must not be empty"):
        Recipe(separator="")
    with pytest.raises(InputError, match="a separator is for text files"):
        Recipe(kind="chat", separator="x")
    with pytest.raises(InputError, match="processes is 0, but must be at least 1"):
        build(tmp_path / "out", [], byte_level(), Recipe(), processes=0)
