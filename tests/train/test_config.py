"""Configuration of a run: read from a file, changed from the command line, refused in one sentence."""

from pathlib import Path

import pytest

from braidlm.errors import InputError
from braidlm.spec.json import decode
from braidlm.train.config import Config, Stage, read_config

WHOLE = """
[model]
preset = "mamba2-130m"
tokenizer = "here"

[data]
shards = "shards"

[[stages]]
steps = 10
batch_size = 4
seq_len = 256

[optimizer]
lr = 1e-3

[run]
out = "runs/one"
"""


def written(directory: Path, text: str = WHOLE, changes: tuple[str, ...] = ()) -> Config:
    file = directory / "run.toml"
    file.write_text(text)
    return read_config(file, changes)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Oracle: by hand; what is there is a path, else a name."""
    assert written(tmp_path).model.tokenizer == "here"
    (tmp_path / "here").mkdir()
    found = written(tmp_path)
    assert found.model.tokenizer == str(tmp_path / "here")
    assert (found.data.shards, found.run.out) == (str(tmp_path / "shards"), str(tmp_path / "runs/one"))


def test_changes(tmp_path: Path) -> None:
    """Oracle: by hand: numbers, words with and without quotation marks, a stage's field, a table that was not there."""
    changes = ("optimizer.lr=0.5", "run.dtype=float32", 'run.prompt="a = b"', "stages.0.steps=3", "loss.z_loss=1e-4")
    found = written(tmp_path, changes=changes)
    assert (found.optimizer.lr, found.run.dtype, found.run.prompt, found.loss.z_loss) == (0.5, "float32", "a = b", 1e-4)
    assert found.stages == (Stage(steps=3, batch_size=4, seq_len=256),)
    assert found.steps == 3


WRONG = {
    "run.oout=1": "run.toml.run has the unknown field 'oout'",
    "run.dtype=int8": "run.toml.run.dtype is 'int8', but must be one of 'bfloat16', 'float32'",
    "optimizer.lr=0": "optimizer.lr is 0, but must be above 0",
    "optimizer.betas=[0.9]": r"optimizer.betas is \[0.9\], but must be two numbers from 0 to below 1",
    "stages=[]": r"stages is \[\], but must be at least one stage",
    "stages.0.batch_size=0": "stage.batch_size is 0, but must be 1 or more",
    "stages.2.batch_size=1": "--set 'stages.2.batch_size' names no field",
    "stages.0=1": "--set 'stages.0' names a list",
    "model.checkpoint=there": r"model is \['preset', 'checkpoint'\], but must be one of spec, preset or checkpoint",
    "schedule.final=2": "schedule.final is 2, but must be from 0 to 1",
    "lr": "--set 'lr' is not of the form key=value",
}


@pytest.mark.parametrize("change", WRONG)
def test_what_is_wrong_is_said(change: str, tmp_path: Path) -> None:
    """Oracle: the sentence, which names the field."""
    with pytest.raises(InputError, match=WRONG[change]):
        written(tmp_path, changes=(change,))


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (f"a = {'[' * 5000}{']' * 5000}", "loss.z_loss=0"),
        (f"a = {'{b=' * 5000}", "loss.z_loss=0"),
        (f"[data]\nshards.{'a.' * 5000}b = 1", "loss.z_loss=0"),
        (WHOLE, f"loss.z_loss={'[' * 5000}"),
        (WHOLE, f"run.prompt.{'a.' * 5000}b=1"),
    ],
    ids=["lists", "tables", "names", "a change", "the name of a change"],
)
def test_what_is_nested_without_end(text: str, change: str, tmp_path: Path) -> None:
    """Oracle: one short sentence: five thousand levels are no configuration."""
    with pytest.raises(InputError) as caught:
        written(tmp_path, text, (change,))
    assert len(str(caught.value)) < 1700 and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Oracle: the sentence, which names the file."""
    with pytest.raises(InputError, match=r"cannot read .*none\.toml"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"run\.toml is no TOML"):
        written(tmp_path, "[model")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"cannot read .*binary\.toml"):
        read_config(tmp_path / "binary.toml")


@pytest.mark.parametrize("kind", ["cosine", "wsd"])
def test_plain_data(kind: str, tmp_path: Path) -> None:
    """Oracle: a configuration as plain data and back is the same one, its schedule's kind with it."""
    found = written(tmp_path, changes=(f"schedule.kind={kind}", "schedule.final=0.5"))
    assert found.schedule.kind == kind
    assert decode(Config, found.to_json(), "config") == found


def test_description_in_the_file(tmp_path: Path) -> None:
    """Oracle: a description written and read back is the same one."""
    mixer = '{ kind = "Hyena", d_state = 4, filters = 4 }'
    spec = f"spec = {{ vocab = 64, width = 16, norm = {{ eps = 1e-5 }}, blocks = [{{ mixer = {mixer} }}] }}"
    found = written(tmp_path, WHOLE.replace('preset = "mamba2-130m"', spec))
    assert found.model.spec is not None
    assert type(found.model.spec).from_json(found.model.spec.to_json()) == found.model.spec
