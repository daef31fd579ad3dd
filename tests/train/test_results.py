"""What a run leaves in its directory, and what it never replaces."""

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from braidlm.cli.main import app
from braidlm.errors import InputError
from braidlm.train import results, training_log


def write(out: Path, text: str, step: int = 1) -> None:
    with results.replaced(out, ["model"], step) as place:
        (place / "model").mkdir()
        (place / "model" / "weights").write_text(text)


def test_a_run_replaces_what_a_run_wrote(tmp_path: Path) -> None:
    """Oracle: the files: the new ones and no others; the step."""
    write(tmp_path, "old", 3)
    write(tmp_path, "new", 5)
    assert (tmp_path / "model" / "weights").read_text() == "new"
    assert results.written_at(tmp_path) == 5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "results.json"]


@pytest.mark.parametrize("how", ["foreign", "changed", "beside", "link", "file"])
def test_nothing_else_is_replaced(how: str, tmp_path: Path) -> None:
    """Oracle: the bytes of what lay there, and a sentence that names it."""
    file = tmp_path / "model" / "weights"
    if how in ("foreign", "link"):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "weights").write_text("mine")
        target = tmp_path / "model"
        target.symlink_to(tmp_path / "elsewhere") if how == "link" else (tmp_path / "elsewhere").rename(target)
    elif how == "file":
        file = tmp_path / "model"
        file.write_text("mine")
    else:
        write(tmp_path, "old")
        file = file if how == "changed" else tmp_path / "model" / "notes.txt"
        file.write_text("mine")
    with pytest.raises(InputError, match=r"model.* was not written by a run, or was changed since"):
        write(tmp_path, "new")
    assert file.read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


def test_an_end_between_two_names_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the old files, at their place again, and replaceable."""
    write(tmp_path, "old")
    rename = Path.rename

    def killed(place: Path, to: Path) -> None:
        rename(place, to)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "new")
    monkeypatch.undo()
    assert not (tmp_path / "model").exists()
    results.recover(tmp_path, ["model"])
    assert (tmp_path / "model" / "weights").read_text() == "old"
    write(tmp_path, "new")
    assert (tmp_path / "model" / "weights").read_text() == "new"


@pytest.mark.parametrize(
    ("name", "how"), [("model/model.safetensors", "full"), ("adapter/notes.txt", "lora"), ("README.md", "state")]
)
def test_a_run_is_refused_before_it_begins(name: str, how: str, place: Path) -> None:
    """Oracle: the bytes of a file that no run wrote; nothing else in the directory."""
    table = {"full": "", "lora": "[adapter]\nrank = 2\n", "state": "[initial_state]\n"}[how]
    (place / "run.toml").write_text((place / "run.toml").read_text() + table)
    file = place / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    found = CliRunner().invoke(app, ["train", str(place / "run.toml")])
    assert isinstance(found.exception, InputError) and name in str(found.exception)
    assert file.read_text() == "mine"
    assert [f for f in (place / "out").rglob("*") if f.is_file()] == [file]


def test_a_finished_run_writes_its_results_again(place: Path) -> None:
    """Oracle: the same bytes of weights and no step more."""
    changes = ("stages.0.steps=4", "run.sample=0", "data.eval_tokens=128", "run.tensorboard=false")
    told = ["train", str(place / "run.toml"), *(word for change in changes for word in ("--set", change))]
    CliRunner().invoke(app, told, catch_exceptions=False)
    weights = (place / "out" / "model" / "model.safetensors").read_bytes()
    CliRunner().invoke(app, told, catch_exceptions=False)
    assert (place / "out" / "model" / "model.safetensors").read_bytes() == weights
    assert [line["step"] for line in training_log.read_log(place / "out" / "log.jsonl") if "loss" in line] == [
        1,
        2,
        3,
        4,
    ]
    assert results.written_at(place / "out") == 4
    shutil.rmtree(place / "out" / "checkpoints")
    with pytest.raises(InputError, match=r"has the results of an earlier run but none of its checkpoints"):
        CliRunner().invoke(app, told, catch_exceptions=False)
    assert (place / "out" / "model" / "model.safetensors").read_bytes() == weights


def test_one_process_trains_in_a_directory(place: Path) -> None:
    """Oracle: the sentence, while another one holds the directory; nothing is written."""
    with results.alone(place / "out"), pytest.raises(InputError, match="another process is training in"):
        CliRunner().invoke(app, ["train", str(place / "run.toml")], catch_exceptions=False)
    assert [file.name for file in (place / "out").iterdir()] == [".lock"]
    (place / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file, but a run needs a directory"):
        CliRunner().invoke(app, ["train", str(place / "run.toml"), "--set", "run.out=file"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["data.packing=whole", "stages.1.seq_len=9"], r"a document of .* tokens, but seq_len is 9"),
        (['data.eval_files=["none.txt"]'], r"names 'none\.txt', which is no source of the data"),
        (["data.shards=elsewhere"], "holds no finished data"),
    ],
)
def test_nothing_is_written_for_a_run_that_cannot_end(changes: list[str], said: str, place: Path) -> None:
    """Oracle: a sentence, also where only a later stage is wrong; the directory of the run is not there."""
    text = (place / "run.toml").read_text()
    later = "[[stages]]\nsteps = 1\nbatch_size = 1\nseq_len = 99999\n[optimizer]"
    (place / "run.toml").write_text(text.replace("[optimizer]", later))
    told = [word for change in changes for word in ("--set", change)]
    found = CliRunner().invoke(app, ["train", str(place / "run.toml"), "--set", "stages.0.seq_len=99999", *told])
    assert isinstance(found.exception, InputError) and re.search(said, str(found.exception))
    assert not (place / "out").exists()


def test_a_log_is_kept(tmp_path: Path) -> None:
    """Oracle: the bytes of a log of which the new run goes on with nothing; steps behind a checkpoint are taken out."""
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 3.0}\n')
    training_log.TrainingLog(tmp_path, 1, tensorboard=False)
    assert log.read_text() == '{"step": 1, "loss": NaN}\n'
    for number, text in ((1, '{"step": 1, "loss": NaN}\n'), (2, "mine\n")):
        log.write_text(text)
        training_log.TrainingLog(tmp_path, 0, tensorboard=False)
        assert log.read_text() == ""
        assert (tmp_path / f"log-{number}.jsonl").read_text() == text
