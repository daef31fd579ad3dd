"""Files of every kind, cut into slices of any size: the same documents at the same places."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidlm.errors import InputError
from braidlm.train.data.reading import read_documents
from braidlm.train.data.recipe import Recipe, Record
from braidlm.train.data.sources import find_files, read_file
from tests.train.data.made import json_lines, properties, texts

SIZES = st.integers(1, 400)
TEXTS = texts(9)


def documents(path: Path, recipe: Recipe, size: int) -> list[Record]:
    """All documents of a file, read in slices of a size."""
    found = read_file(path, 0, recipe, size)
    assert not found.problem and found.size == path.stat().st_size
    return [record for place, _ in found.slices for record in read_documents(place, recipe)]


lines = st.lists(
    st.sampled_from(["", "  ", '{"text": "a"}', '{"text": "é\\n😀"}\r', '{"text": "longer than the others"}'])
)


def test_lines_of_json(tmp_path: Path) -> None:
    """Oracle: Python's json, line by line."""

    @properties
    @given(lines, st.booleans(), SIZES)
    def check(rows: list[str], bom: bool, size: int) -> None:
        path = tmp_path / "a.jsonl"
        path.write_bytes(b"\xef\xbb\xbf" * bom + "\n".join([*rows, '{"text": "last"}']).encode())
        expected = [(i, json.loads(row)["text"]) for i, row in enumerate([*rows, '{"text": "last"}'], 1) if row.strip()]
        found = documents(path, Recipe(kind="jsonl"), size)
        assert [(record.line, record.value) for record in found] == expected

    check()


parts = st.lists(st.sampled_from(["a", "b\nc\n", "é😀", "\n", "-", "-\n-", " longer than the others"]), max_size=12)


def test_texts_with_a_separator(tmp_path: Path) -> None:
    """Oracle: Python's split of the whole text, without parts of white space alone."""

    @properties
    @given(parts, SIZES)
    def check(pieces: list[str], size: int) -> None:
        text = "\n---\n".join([*pieces, "last"])
        path = tmp_path / "a.txt"
        path.write_bytes(text.encode())
        found = documents(path, Recipe(separator="\n---\n"), size)
        assert [record.value for record in found] == [part for part in text.split("\n---\n") if part.strip()]
        for record in found:
            at = sum(len(line) for line in text.splitlines(keepends=True)[: record.line - 1])
            assert text[at:].startswith(record.value)

    check()


@pytest.mark.parametrize("size", [1, 300, 10**6])
def test_parquet(size: int, tmp_path: Path) -> None:
    """Oracle: the table that was written."""
    pq.write_table(pa.table({"id": range(9), "text": TEXTS}), tmp_path / "a.parquet", row_group_size=2)
    found = documents(tmp_path / "a.parquet", Recipe(kind="parquet"), size)
    assert found == [Record(row, text) for row, text in enumerate(TEXTS, 1)]


def test_chats_in_parquet(tmp_path: Path) -> None:
    """Oracle: the same conversations in JSON."""
    chats = [[{"role": "user", "content": text}, {"role": "assistant", "content": "so"}] for text in TEXTS]
    pq.write_table(pa.table({"messages": chats}), tmp_path / "a.parquet")
    lines = json_lines(tmp_path / "a.jsonl", [{"messages": chat} for chat in chats])
    recipe = Recipe(kind="chat")
    assert documents(tmp_path / "a.parquet", recipe, 100) == documents(lines, recipe, 100)


def test_a_file_is_a_document(tmp_path: Path) -> None:
    """Oracle: the text that was written, line ends of every kind included."""
    (tmp_path / "a.txt").write_bytes("one\r\ntwo\n\n\nthree é".encode())
    assert documents(tmp_path / "a.txt", Recipe(), 1) == [Record(0, "one\r\ntwo\n\n\nthree é")]


def test_finding_files(tmp_path: Path) -> None:
    """Oracle: by hand: in order of names, and of the sources."""
    for name in ("b.txt", "a.md", "c.jsonl", "in/d.txt", "in/e.log", ".git/f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")

    def found(*sources: str, kind: Any = "text") -> list[str]:
        files = find_files([tmp_path / source for source in sources], kind)
        return [str(file.relative_to(tmp_path)) for file in files]

    assert found("") == ["a.md", "b.txt", "in/d.txt"]
    assert found("in/e.log", "b.txt") == ["in/e.log", "b.txt"]
    assert found("**/*.log", "*.md") == ["in/e.log", "a.md"]
    assert found("", kind="chat") == ["c.jsonl"]
    with pytest.raises(InputError, match=r"b\.txt is named twice by the sources"):
        found("", "b.txt")
    with pytest.raises(InputError, match=r"holds no file of kind parquet \(\.parquet\)"):
        found("", kind="parquet")
    with pytest.raises(InputError, match=r"^\S*nothing is no file, directory or pattern of files here$"):
        found("nothing")
