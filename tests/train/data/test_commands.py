"""`braid data` and `braid tokenizer`."""

from pathlib import Path

import pytest

from braidlm.api.loading import read_tokenizer
from braidlm.train.data.shards import Shards
from tests.cli.commands import braid, data, entry
from tests.train.data.made import json_lines, texts


def test_from_texts_to_tokens(tmp_path: Path) -> None:
    """Oracle: what the library says of what the commands wrote."""
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(texts(12)):
        (tmp_path / "texts" / f"{number:02}.txt").write_text(f"{text}\n--\nsecond\n", encoding="utf-8")
    vocabulary, out = str(tmp_path / "vocabulary"), tmp_path / "out"
    made = data("tokenizer", "train", str(tmp_path / "texts"), "--vocab", "300", "--out", vocabulary)
    assert made == {"directory": vocabulary, "vocabulary": 300, "end": "<|endoftext|>"}
    options = ["--tokenizer", vocabulary, "--separator", r"\n--\n", "--holdout", "3", "--processes", "2"]
    found = data("data", str(out), str(tmp_path / "texts"), *options)
    shards = Shards(out, read_tokenizer(vocabulary))
    for name, part in (("training", shards.training), ("holdout", shards.holdout)):
        assert found[name] == {"documents": len(part), "tokens": part.tokens}
    # The twelve second documents are equal, so they are held out together if they are.
    assert len(shards.training) + len(shards.holdout) == 24
    assert len(shards.holdout) in (3, *range(12, 16))


def test_what_was_skipped_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: text by hand."""
    source = json_lines(tmp_path / "a.jsonl", [{"text": "one two"}, {"text": 1}])
    options = ["--tokenizer", "smollm2-135m", "--kind", "jsonl"]
    done = entry(capfd, "data", str(tmp_path / "out"), str(source), *options)
    assert done.returncode == 2
    assert done.stderr == f"braid: {source}, line 2: holds int '1' where a text must be\n"
    shown = braid("data", str(tmp_path / "out"), str(source), *options, "--on-bad-documents", "skip")
    assert shown.stdout.splitlines() == [
        f"{tmp_path / 'out'}: 1 documents, 3 tokens",
        "skipped: 1 bad documents, first:",
        f"  {source}, line 2: holds int '1' where a text must be",
    ]


def test_a_directory_without_a_tokenizer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: a sentence by hand."""
    done = entry(capfd, "data", str(tmp_path / "out"), "x", "--tokenizer", str(tmp_path))
    assert done.returncode == 2 and f"{tmp_path} has no tokenizer; a directory needs a tokenizer.json" in done.stderr
