"""Recall tasks as training data: documents, packings, whole runs, and refusals."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.synthetic import LAYOUTS, TASKS, Case, state_fields, train

from braidlm.api import loading
from braidlm.errors import InputError
from braidlm.eval.item_maker import ItemMaker
from braidlm.eval.recall import recall
from braidlm.eval.tasks import items
from braidlm.train import run as runs
from braidlm.train.config import Config, read_config
from braidlm.train.data.pack import IGNORED
from braidlm.train.data.recall import Recall, RecallTask
from braidlm.train.loop import Hooks
from braidlm.train.run_data import open_data
from braidlm.train.world import World

CONFIG = """
[model.spec]
vocab = 24
width = 32
tied = true
norm = { eps = 1e-5 }
[[model.spec.blocks]]
mixer = { kind = "Attention", heads = 2, kv_heads = 2, head_dim = 16, rope = { base = 10000.0, dims = 16 } }
[[model.spec.blocks]]
mixer = { kind = "Attention", heads = 2, kv_heads = 2, head_dim = 16, rope = { base = 10000.0, dims = 16 } }
[data.task]
name = "induction"
length = 16
questions = 2
held_out = 5
[[stages]]
steps = 6
batch_size = 2
seq_len = 40
[optimizer]
lr = 1e-2
[run]
out = "out"
checkpoint = 2
evaluate = 3
tensorboard = false
"""


@pytest.fixture
def asked(tmp_path: Path) -> Config:
    (tmp_path / "run.toml").write_text(CONFIG)
    return read_config(tmp_path / "run.toml")


@pytest.mark.parametrize("name", ["mqar", "induction", "selective_copying"])
def test_documents(name: str) -> None:
    """Oracle: each task's rule, by search in the text: what followed a key there; the tokens that are no noise."""
    task = RecallTask(name=name, length=60, questions=1 if name == "selective_copying" else 5)
    pack = Recall(ItemMaker(None, 64), task).stage(0, 1, 200, 1).pack(0, 0)
    assert len(pack.lengths) == 200 // pack.lengths[0] and len(set(pack.lengths)) == 1
    for ids_T, targets_T in zip(pack.ids_T.split(pack.lengths), pack.targets_T.split(pack.lengths), strict=True):
        ids, places = ids_T.tolist(), (targets_T != IGNORED).nonzero()[:, 0].tolist()
        assert [ids[place + 1] for place in places] == targets_T[places].tolist()
        if name == "selective_copying":
            noise = max(ids, key=ids.count)
            assert [token for token in ids[: places[0]] if token != noise] == targets_T[places].tolist()
        else:
            assert len(places) == 5
            for place in places:
                assert ids[ids.index(ids[place]) + 1] == ids[place + 1]


def test_no_document_twice(asked: Config) -> None:
    """Oracle: the set of all documents: of two stages, of evaluations, and of `braid eval recall`."""
    found = open_data(asked.data, None, 24)
    first = found.packing.stage(0, 2, 40, 3)
    second = found.packing.stage(first.end, 1, 60, 4)
    packs = [first.pack(step, index) for step in range(3) for index in range(2)]
    packs += [second.pack(step, 0) for step in range(4)] + found.eval_packs
    rows = [tuple(row.tolist()) for pack in packs for row in pack.ids_T.split(pack.lengths)]
    assert len(rows) == 6 * 2 + 4 * 3 + 5
    rows += [item.haystack for item in items("induction", ItemMaker(None, 24), 16, 20)]
    assert len({row[:14] for row in rows}) == len(rows)
    again = found.packing.stage(0, 2, 40, 3).pack(2, 1)
    assert torch.equal(again.ids_T, packs[5].ids_T) and torch.equal(again.targets_T, packs[5].targets_T)


def test_a_whole_run(asked: Config, tmp_path: Path) -> None:
    """Oracle: losses of a run without an interruption; the card names the task, and the model loads."""
    losses: list[float] = []
    whole = runs.prepare(asked, World())
    assert runs.train(whole, Hooks(stepped=lambda step: losses.append(step.loss))) == 0
    runs.finish(whole, World())
    assert "recall task induction of 16 tokens" in (tmp_path / "out" / "model" / "README.md").read_text()
    loaded = loading.load(str(tmp_path / "out" / "model"))
    assert len(recall(loaded, list(items("induction", ItemMaker(None, 24), 16, 3))).answers) == 15
    stopped = replace(asked, run=replace(asked.run, out=str(tmp_path / "stopped")))
    runs.prepare(stopped, World()).trainer.run(until=4)
    rest: list[float] = []
    runs.prepare(stopped, World()).trainer.run(Hooks(stepped=lambda step: rest.append(step.loss)))
    assert rest == losses[4:]


def test_what_is_wrong_is_said(asked: Config, tmp_path: Path) -> None:
    """Oracle: the sentences."""
    for change, said in {
        "data.task.name=needle": r"task\.name is 'needle', but must be one of 'mqar', 'induction', 'selective_copying'",
        "data.task.questions=0": r"task\.questions is 0, but must be 1 or more",
        "data.shards=shards": r"data is \['shards', 'task'\], but must be one of",
        "run.carry_state=true": r"run\.carry_state is True, but must be false unless data\.shards",
    }.items():
        with pytest.raises(InputError, match=said):
            read_config(tmp_path / "run.toml", [change])
    for change, said in {
        "stages.0.seq_len=17": r"a document of the recall task induction of 16 tokens has 18 tokens with all of its",
        "data.task.questions=9": r"the recall task induction of 16 tokens cannot be made: there is no room for a pair",
    }.items():
        with pytest.raises(InputError, match=said):
            runs.prepare(read_config(tmp_path / "run.toml", [change]), World())
    changed = replace(asked, data=replace(asked.data, task=RecallTask(name="induction", length=16)))
    runs.prepare(asked, World()).trainer.run(until=2)
    with pytest.raises(InputError, match=r"data\.task"):
        runs.prepare(changed, World())


@pytest.mark.parametrize("layout", sorted(LAYOUTS.glob("*.toml")), ids=lambda layout: layout.stem)
@pytest.mark.parametrize("task", TASKS)
def test_synthetic_layouts(layout: Path, task: str, tmp_path: Path) -> None:
    """Oracle: the state of the model that the sweep asks for, by its spec; a score between 0 and 1 after one step."""
    case = Case(layout, task, 2 if state_fields(layout) else None, 1e-3, 1)
    changes = ["stages.0.steps=1", "stages.0.batch_size=1", "run.evaluate=0"]
    score = train(case, tmp_path, changes)
    spec = read_config(layout).model.spec
    assert spec is not None and score.state <= spec.state_bytes(64, dtype="float32", kv_dtype="float32")
    assert 0 <= score.exact <= 1 and train(case, tmp_path, changes) == score
    with pytest.raises(InputError, match="was made with other settings"):
        train(case, tmp_path, [*changes, "optimizer.weight_decay=0.2"])
