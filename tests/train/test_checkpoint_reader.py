"""Stored checkpoints that are damaged or of somebody who means harm."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata

from braidlm.errors import CheckpointError
from braidlm.train.checkpoints import latest
from braidlm.train.loop import Trainer
from tests.train.packings import OneText
from tests.train.runs import config, ids_for, model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run after two steps."""
    network, out = model("llama"), tmp_path_factory.mktemp("run")
    Trainer(config(out), network, OneText(ids_for(network)), []).run(until=2)
    return out


@pytest.fixture
def table(run: Path, tmp_path: Path) -> Path:
    """The table of a checkpoint after two steps."""
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    place = latest(tmp_path / "checkpoints")
    assert place is not None
    return place / ".metadata"


def resumed(table: Path) -> Trainer:
    network = model("llama")
    return Trainer(config(table.parents[2]), network, OneText(ids_for(network)), [])


class _Harm:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("harm",)


def _elsewhere(found: Metadata) -> None:
    for info in found.storage_data.values():
        info.relative_path = "../../" + info.relative_path


def test_whole_checkpoints_are_read(table: Path) -> None:
    """Oracle: the number of steps, by hand."""
    assert resumed(table).step == 2


def test_code_is_not_run(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what the code would leave behind; and the sentence."""
    monkeypatch.chdir(tmp_path)
    table.write_bytes(pickle.dumps(_Harm()))
    with pytest.raises(CheckpointError, match=r"asks for (posix|os)\.mkdir, which no table"):
        resumed(table)
    assert not (tmp_path / "harm").exists()


def test_code_in_values_is_not_run(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what the code would leave behind, in place of a learning rate."""
    monkeypatch.chdir(tmp_path)
    found = pickle.loads(table.read_bytes())
    torch.save(_Harm(), table.with_name("harm.pt"))
    for index, info in found.storage_data.items():
        if index.fqn.endswith(".lr"):
            info.relative_path, info.offset, info.length = "harm.pt", 0, table.with_name("harm.pt").stat().st_size
    table.write_bytes(pickle.dumps(found))
    with pytest.raises(CheckpointError, match="is damaged or belongs to another model"):
        resumed(table)
    assert not (tmp_path / "harm").exists()


def test_files_elsewhere(table: Path) -> None:
    """Oracle: the sentence."""
    found = pickle.loads(table.read_bytes())
    _elsewhere(found)
    table.write_bytes(pickle.dumps(found))
    with pytest.raises(CheckpointError, match="which is no file of its directory"):
        resumed(table)


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "progress.json"])
@pytest.mark.parametrize("kind", ["pipe", "link to nowhere", "empty"])
def test_what_is_no_file(table: Path, name: str, kind: str) -> None:
    """Oracle: one sentence; nothing is waited for, and no older checkpoint takes the place of this one."""
    file = table.with_name(name)
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "empty":
        file.touch()
    else:
        file.symlink_to("nowhere")
    with pytest.raises(CheckpointError) as caught:
        resumed(table)
    assert "\n" not in str(caught.value)
    assert "step-" in str(caught.value)


def test_any_end_of_a_pickle(table: Path) -> None:
    """Oracle: one sentence, wherever the table ends."""
    whole = table.read_bytes()
    for at in range(0, len(whole) - 1, len(whole) // 8):
        table.write_bytes(whole[:at])
        with pytest.raises(CheckpointError, match="is damaged or belongs to another model") as caught:
            resumed(table)
        assert "\n" not in str(caught.value)
