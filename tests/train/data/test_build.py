"""From sources to shards and back: nothing lost, the same for any number of processes, and after a kill."""

import fcntl
import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest

from braidlm.errors import InputError
from braidlm.train.data.build import UNFINISHED, build
from braidlm.train.data.documents import Piece
from braidlm.train.data.recipe import Recipe
from braidlm.train.data.shards import Shards, holdout_mask
from tests.text.made import byte_level
from tests.train.data.made import json_lines, read_back, texts

TEXTS = texts(60)
JSON = Recipe(kind="jsonl")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return json_lines(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])


def same(one: Path, other: Path) -> None:
    """Two directories hold the same files, bit for bit."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def test_texts_come_back(source: Path, tmp_path: Path) -> None:
    """Oracle: the texts that were written, each at its line."""
    other = tmp_path / "b.jsonl"
    json_lines(other, [{"text": "one more"}])
    shards = build(tmp_path / "out", [source, other], byte_level(), JSON, shard_bytes=1000)
    assert read_back(shards) == [(f"{source}, line {i}", text) for i, text in enumerate(TEXTS, 1)] + [
        (f"{other}, line 1", "one more")
    ]
    assert len(shards.manifest.shards) > 3
    assert shards.manifest.tokens == shards.training.tokens
    assert [(info.name, info.size) for info in shards.manifest.sources] == [
        (str(path), path.stat().st_size) for path in (source, other)
    ]
    assert sorted({path.suffix for path in (tmp_path / "out").iterdir()}) == [".index", ".json", ".tokens"]


def test_processes(source: Path, tmp_path: Path) -> None:
    """Oracle: one process, bit for bit; files smaller and larger than a shard."""
    more = [json_lines(tmp_path / f"b{i}.jsonl", [{"text": f"{i}"}]) for i in range(3)]
    for processes in (1, 3):
        out = tmp_path / str(processes)
        build(out, [*more, source], byte_level(), JSON, processes=processes, shard_bytes=700)
    same(tmp_path / "1", tmp_path / "3")


def test_the_first_error_of_several_processes(tmp_path: Path) -> None:
    """Oracle: the first bad line, whichever process is the quicker."""
    rows = [{"text": text} for text in TEXTS] + [{"no": 1}] + [{"text": "x"}] * 5 + [{"no": 2}] * 3
    source = json_lines(tmp_path / "a.jsonl", rows)
    for processes in (1, 2):
        with pytest.raises(InputError, match="line 61: lacks the field 'text'"):
            build(tmp_path / str(processes), [source], byte_level(), JSON, processes=processes, shard_bytes=300)


def test_a_killed_run_goes_on(source: Path, tmp_path: Path) -> None:
    """Oracle: a run that was not interrupted; shards that were whole are not made again."""
    build(tmp_path / "whole", [source], byte_level(), JSON, shard_bytes=300)
    tokenizer, out = tmp_path / "tokenizer", tmp_path / "out"
    tokenizer.mkdir()
    byte_level().save(tokenizer)
    # A process that stops for good in its fourth shard, as it writes it.
    code = (
        "import sys, time; from pathlib import Path; from braidlm.text.tokenizer import Tokenizer\n"
        "from braidlm.train.data import build, worker; from braidlm.train.data.recipe import Recipe\n"
        "write = worker.Worker._write\n"
        "def slow(self, number, *rest):\n"
        "    if number == 3: (self._job.directory / '.00003.tokens.half').touch(); time.sleep(600)\n"
        "    write(self, number, *rest)\n"
        "worker.Worker._write = slow\n"
        "tokenizer, recipe = Tokenizer.from_directory(Path(sys.argv[3])), Recipe(kind='jsonl')\n"
        "build.build(Path(sys.argv[1]), [sys.argv[2]], tokenizer, recipe, shard_bytes=300)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(out), str(source), str(tokenizer)])
    try:
        while not (out / ".00003.tokens.half").exists():
            assert process.poll() is None
            time.sleep(0.05)
        with pytest.raises(InputError, match="another process is writing"):
            build(out, [source], byte_level(), JSON, shard_bytes=300)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(InputError, match=r"holds no finished data: it has no manifest\.json"):
        Shards(out, byte_level())
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tokens")}
    assert sorted(before) == ["00000.tokens", "00001.tokens", "00002.tokens"]
    build(out, [source], byte_level(), JSON, shard_bytes=300)
    assert all((out / name).stat().st_mtime_ns == then for name, then in before.items())
    same(tmp_path / "whole", out)


def test_workers_are_lean() -> None:
    """Oracle: the modules that a fresh interpreter holds: a process that tokenizes starts in a moment."""
    code = "import sys, braidlm.cli.start, braidlm.train.data.worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_workers_end_with_their_parent(source: Path, tmp_path: Path) -> None:
    """Oracle: the operating system's list of processes."""
    code = (
        "import multiprocessing, os, sys, time; from concurrent.futures import ProcessPoolExecutor\n"
        "from braidlm.train.data import worker; from braidlm.train.data.recipe import Recipe\n"
        "from pathlib import Path; from braidlm.text.tokenizer import Tokenizer\n"
        "tokenizer = Tokenizer.from_directory(Path(sys.argv[1]))\n"
        "job = worker.Job(Path('.'), tokenizer, Recipe(), ())\n"
        "pool = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), worker.start, (job,))\n"
        "print(pool.submit(os.getpid).result(), flush=True); time.sleep(600)"
    )
    byte_level().save(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        child = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def interrupted(source: Path, out: Path) -> None:
    """A run that ends at a bad line after whole shards."""
    text = source.read_text(encoding="utf-8")
    source.write_text(text + '{"text": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 61: holds int '1' where a text must be"):
        build(out, [source], byte_level(), JSON, shard_bytes=300)


def test_going_on_with_other_settings(source: Path, tmp_path: Path) -> None:
    """Oracle: sentences by hand; what whole shards do not depend on may change, and gives what a fresh run gives."""
    out = tmp_path / "out"
    interrupted(source, out)
    for recipe, size in ((Recipe(kind="jsonl", field="other"), 300), (JSON, 400)):
        with pytest.raises(InputError, match="holds an unfinished run of other sources, settings or another tokenizer"):
            build(out, [source], byte_level(), recipe, shard_bytes=size)
    skipping = Recipe(kind="jsonl", on_bad_documents="skip", holdout=0.2)
    before = (out / "00000.tokens").stat().st_mtime_ns
    shards = build(out, [source], byte_level(), skipping, shard_bytes=300)
    build(tmp_path / "fresh", [source], byte_level(), skipping, shard_bytes=300)
    same(tmp_path / "fresh", out)
    assert (out / "00000.tokens").stat().st_mtime_ns == before
    assert shards.manifest.skips == (f"{source}, line 61: holds int '1' where a text must be",)
    with pytest.raises(InputError, match="holds finished data already"):
        build(out, [source], byte_level(), JSON)


def test_the_first_shard_may_be_tried_again(source: Path, tmp_path: Path) -> None:
    """Oracle: by hand: where nothing is whole yet, nothing is lost with other settings."""
    with pytest.raises(InputError, match="line 1: lacks the field 'texts' "):
        build(tmp_path / "out", [source], byte_level(), Recipe(kind="jsonl", field="texts"))
    assert len(build(tmp_path / "out", [source], byte_level(), JSON).training) == len(TEXTS)


def test_a_directory_with_other_files(source: Path, tmp_path: Path) -> None:
    """Oracle: a sentence by hand, and the file is still there."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="exists already and is not empty"):
        build(tmp_path / "out", [source], byte_level(), JSON)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_lock_of_nobody(source: Path, tmp_path: Path) -> None:
    """Oracle: by hand: a lock that is let go is no obstacle."""
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / UNFINISHED).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is writing"):
            build(tmp_path / "out", [source], byte_level(), JSON)
    assert len(build(tmp_path / "out", [source], byte_level(), JSON).training) == len(TEXTS)


def test_holdout(source: Path, tmp_path: Path) -> None:
    """Oracle: sets of texts: apart, whole together, and the same when documents are added, in another order."""

    def held(name: str, rows: list[str], holdout: float) -> tuple[set[str], set[str]]:
        path = json_lines(tmp_path / f"{name}.jsonl", [{"text": text} for text in rows])
        shards = build(tmp_path / name, [path], byte_level(), Recipe(kind="jsonl", holdout=holdout), shard_bytes=500)
        numbers = (shards.training.numbers_N, shards.holdout.numbers_N)
        training, holdout = ({rows[i] for i in number} for number in numbers)
        assert not training & holdout and training | holdout == set(rows)
        return training, holdout

    _, few = held("few", TEXTS[:40], 0.25)
    _, many = held("many", [*reversed(TEXTS), *TEXTS[:9]], 0.25)
    assert few == {text for text in many if text in TEXTS[:40]}
    assert 3 <= len(few) <= 18
    assert len(held("number", TEXTS, 7)[1]) == 7


def test_holdouts_that_leave_nothing() -> None:
    """Oracle: by hand: thresholds on hashes, and sentences."""
    hash_N = np.array([2**63, 5, 2**62, 5], np.uint64)
    assert holdout_mask(hash_N, 0.3).tolist() == [False, True, True, True]
    assert holdout_mask(hash_N, 1).tolist() == [False, True, False, True]
    assert not holdout_mask(hash_N, 0).any()
    for wrong in (0.9, 4, 40):
        with pytest.raises(InputError, match=f"of 4 documents, a holdout of {wrong} keeps 4 from training"):
            holdout_mask(hash_N, wrong)
    with pytest.raises(InputError, match=r"holdout is 1\.5, but must be a share below 1 or a whole number"):
        Recipe(holdout=1.5)


def test_datasets(source: Path, tmp_path: Path) -> None:
    """Oracle: the same rows in a file: of a saved dataset, of a directory of files, and of a stream."""
    build(tmp_path / "lines", [source], byte_level(), JSON)
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    (tmp_path / "files").mkdir()
    os.rename(source, tmp_path / "files" / "a.jsonl")
    for name, place, streamed in (("a", "saved", False), ("b", "files", False), ("c", "files", True)):
        recipe = Recipe(kind="dataset", streamed=streamed)
        processes = 2 if streamed else 1
        shards = build(tmp_path / name, [tmp_path / place], byte_level(), recipe, processes=processes, shard_bytes=900)
        expected = [(f"{tmp_path / place}, row {i}", text) for i, text in enumerate(TEXTS, 1)]
        assert read_back(shards) == expected
        assert len(shards.manifest.shards) > 3


def test_a_stream_goes_on(source: Path, tmp_path: Path) -> None:
    """Oracle: a fresh run: what was made of the same rows is kept, and what was made of others is made again."""
    files, recipe = tmp_path / "files", Recipe(kind="dataset", streamed=True)
    files.mkdir()
    text = source.read_text(encoding="utf-8")
    (files / "a.jsonl").write_text(text + '{"text": ""}\n', encoding="utf-8")
    with pytest.raises(InputError, match="row 61: is empty"):
        build(tmp_path / "out", [files], byte_level(), recipe, shard_bytes=900)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tokens")}
    (files / "a.jsonl").write_text(text.replace("fox 20 ", "cat 20 "), encoding="utf-8")
    shards = build(tmp_path / "out", [files], byte_level(), recipe, shard_bytes=900)
    build(tmp_path / "fresh", [files], byte_level(), recipe, shard_bytes=900)
    same(tmp_path / "fresh", tmp_path / "out")
    after = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before}
    assert sum(before[name] != after[name] for name in before) == 1 < len(before)
    assert [text for _, text in read_back(shards)] == [text.replace("fox 20 ", "cat 20 ") for text in TEXTS]


def test_conversations(tmp_path: Path) -> None:
    """Oracle: the loss falls on the answers alone; a pack's targets say so."""
    chats = [
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": f"Number {i}."}]}
        for i in range(20)
    ]
    source = json_lines(tmp_path / "a.jsonl", chats)
    shards = build(tmp_path / "out", [source], byte_level(), Recipe(kind="chat"), shard_bytes=500)
    for number in range(20):
        pack = shards.training.pack([Piece(number, 0, int(shards.training.lengths_N[number]))], False)
        targets = [token for token in pack.targets_T.tolist() if token >= 0]
        assert byte_level().decode(targets, skip_special=False) == f"Number {number}.<|im_end|>"
