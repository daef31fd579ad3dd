"""The example of docs/grafting.md, a tiny donor and its graft, with fewer steps than it has there."""

import shutil
import sysconfig
from pathlib import Path

import pytest

import braidlm
from braidlm.graft.recipe import read_recipe
from braidlm.graft.run import graft
from braidlm.train import run as training
from braidlm.train.config import read_config
from braidlm.train.data import vocabulary
from braidlm.train.data.build import build
from braidlm.train.data.recipe import Recipe
from braidlm.train.loop import Hooks
from braidlm.train.world import World
from tests.graft.small import Quiet

EXAMPLE = Path(__file__).parents[2] / "examples" / "graft" / "tiny"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's directory, with a donor that has learned a little from some files of Python's library."""
    place = tmp_path_factory.mktemp("tiny")
    for name in ("donor.toml", "graft.toml"):
        shutil.copy(EXAMPLE / name, place)
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-c]*.py"))
    tokenizer = vocabulary.train(files, 2048)
    (place / "tokenizer").mkdir()
    tokenizer.save(place / "tokenizer")
    build(place / "shards", files, tokenizer, Recipe(holdout=2))
    changes = ["stages.0.steps=12", "stages.0.batch_size=2", "stages.0.seq_len=128", "data.eval_tokens=512"]
    run = training.prepare(read_config(place / "donor.toml", changes), World())
    assert training.train(run, Hooks()) == 0
    training.finish(run, World())
    return place


def test_the_example(place: Path) -> None:
    """Oracle: what the document promises: half of the blocks replaced, a report, a model that writes."""
    changes = [
        *(
            f"{stage}.stages.0.{name}"
            for stage in ("align", "distil", "lengthen")
            for name in ("steps=2", "seq_len=128")
        ),
        *("probe.tokens=256", "probe.seq_len=128", "probe.haystack_tokens=300", "probe.haystacks=1"),
        *("data.eval_tokens=512", "align.evaluate=1", 'report.parts=["text", "state"]', "report.tokens=256"),
        *("report.seq_len=128", "report.lengths=[256]"),
    ]
    watch = Quiet()
    assert graft(read_recipe(place / "graft.toml", changes), watch) == 0
    assert (place / "hybrid" / "report.html").stat().st_size > 10_000
    model = braidlm.load(place / "hybrid" / "model")
    kinds = [type(block.mixer).__name__ for block in model.spec.blocks]
    assert (kinds.count("Attention"), kinds.count("Parallel")) == (3, 3)
    assert set(watch.losses) == {"all", *(f"replaced {index}" for index in range(6))}
    assert model.generate("def read(", max_tokens=3)
