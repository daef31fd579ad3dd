"""Whole grafts of a small donor: every stage, stopped and gone on with."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch

import braidlm
from braidlm.errors import InputError
from braidlm.graft.recipe import read_recipe
from braidlm.graft.run import graft
from tests.graft import small
from tests.tolerances import RELATIVE_LOGITS
from tests.train.processes import begin


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.make(tmp_path_factory.mktemp("graft"))


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    """A graft that ran from its beginning to its end."""
    watch = small.Quiet()
    assert graft(read_recipe(place), watch) == 0
    return place.parent / "graft"


def test_what_comes_out(place: Path, undisturbed: Path) -> None:
    """Oracle: the recipe: half of the blocks keep their attention, and the others have parallel heads."""
    model = braidlm.load(undisturbed / "model")
    kinds = [type(block.mixer).__name__ for block in model.spec.blocks]
    assert sorted(kinds) == ["Attention", "Attention", "Parallel", "Parallel"]
    result = small.facts(undisturbed / "probe")["result"]
    assert [index for index, kind in enumerate(kinds) if kind == "Parallel"] == result["replaced"]
    assert len(model.generate("def test", max_tokens=4)) > 0
    report = json.loads((undisturbed / "report.json").read_text())
    assert set(report["measured"]["text"]) >= {"donor", "graft", "window_control", "donor_trained"}
    assert "donor" in (undisturbed / "model" / "README.md").read_text()


def assert_same_weights(actual: Path, expected: Path) -> None:
    """Asserts that the models in two directories have the same weights, bit for bit."""
    weights = dict(braidlm.load(actual).network.named_weights())
    others = dict(braidlm.load(expected).network.named_weights())
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize(
    ("stage", "steps"), [("align", 3), ("distil", 1), ("lengthen", 2), ("tune", 1), ("control", 1)]
)
def test_stopped_and_gone_on_with(place: Path, undisturbed: Path, stage: str, steps: int) -> None:
    """Oracle: the weights of the graft that was not stopped, bit for bit."""
    out = place.parent / f"stopped-{stage}"
    recipe = read_recipe(place, [f"run.out={out}"])
    assert graft(recipe, small.Quiet(stage, steps)) == 2
    assert not (out / "model").exists()
    assert graft(recipe, small.Quiet()) == 0
    assert_same_weights(out / "model", undisturbed / "model")


KILLED = [
    "align/checkpoints/step-00000002",
    "probe/replaced-1/finished.json",
    "hybrid/model/braidlm.json",
    "distil/checkpoints/step-00000002",
    "lengthen/checkpoints/step-00000001",
    "tune/results.json",
]


def _graft(recipe: Path, out: Path) -> None:
    assert graft(read_recipe(recipe, [f"run.out={out}"]), small.Quiet()) == 0


def test_killed_in_every_stage(place: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Oracle: the weights of the graft that was not killed, bit for bit, after a kill in each stage."""
    out = tmp_path / "killed"
    for number, moment in enumerate(KILLED):
        process = begin(tmp_path / f"{number}.log", _graft, place, out)
        while not (out / moment).exists() and process.is_alive():
            time.sleep(0.005)
        process.kill()
        process.join()
        assert (out / moment).exists(), (tmp_path / f"{number}.log").read_text()
    _graft(place, out)
    assert_same_weights(out / "model", undisturbed / "model")


def test_a_finished_stage_with_other_settings(place: Path, undisturbed: Path) -> None:
    """Oracle: the setting that differs, in the message."""
    with pytest.raises(InputError, match=r"align\.align\.optimizer\.lr is 0\.5, but the stage in .* was finished with"):
        graft(read_recipe(place, ["align.optimizer.lr=0.5"]), small.Quiet())


MIXERS = {
    "mamba2": '{ kind = "mamba2" }',
    "mamba": '{ kind = "mamba", d_state = 4 }',
    "hyena": '{ kind = "hyena", d_state = 4 }',
    "window": '{ kind = "window", window = 16, sink_tokens = 1 }',
    "parallel, mamba": '{ kind = "parallel", window = 16, ssm = "mamba" }',
    "spec": '{ kind = "spec", spec = { kind = "Mamba2", heads = 2, head_dim = 16, d_state = 8 } }',
}


@pytest.mark.parametrize("kind", MIXERS)
def test_every_kind_becomes_a_model(place: Path, kind: str) -> None:
    """Oracle: one pass over the whole: a model of the kind, loaded, gives the same logits token by token."""
    out, text = place.parent / f"kind-{kind}", place.read_text()
    few = [f"{stage}.stages.0.steps=1" for stage in ("align", "distil", "tune", "control")]
    other = place.with_name("kind.toml")
    other.write_text(text if "parallel" in kind else text.replace("branch_dropout = { start = 0.5, until = 0.8 }", ""))
    meta = ["layout.meta_tokens=3"] if kind == "window" else []
    changes = [f"layout.mixer={MIXERS[kind]}", f"run.out={out}", *few, *meta]
    assert graft(read_recipe(other, changes), small.Quiet()) == 0
    model = braidlm.load(out / "model", dtype="float32")
    assert model.spec.meta_tokens == (3 if meta else 0)
    ids = torch.arange(40)[None] % model.spec.vocab
    whole, state = model.forward(ids), model.new_state(1)
    single = torch.cat([model.forward(ids[:, i : i + 1], state=state) for i in range(40)], 1)
    assert (whole - single).abs().max() <= RELATIVE_LOGITS[torch.float32] * whole.abs().max()


def test_filters_do_not_explode(place: Path) -> None:
    """Oracle: the errors before alignment; its first steps, at the full rate, could raise those without end."""
    out, other, errors = place.parent / "filters", place.with_name("filters.toml"), []
    other.write_text(place.read_text().replace("branch_dropout = { start = 0.5, until = 0.8 }", ""))
    for steps in (1, 12):
        changes = [f"align.stages.0.steps={steps}", "align.stages.0.seq_len=256", "align.schedule.warmup=0.0"]
        changes += ['layout.mixer={ kind = "hyena" }', f"run.out={out}-{steps}", "data.eval_tokens=512"]
        if steps == 1:
            changes.append("align.optimizer.lr=1e-9")
        assert graft(read_recipe(other, changes), small.Quiet(), "probe") == 0
        found = json.loads((Path(f"{out}-{steps}") / "align" / "finished.json").read_text())
        errors.append(found["result"]["errors"])
    assert all(after < 1.5 * errors[0][block] for block, after in errors[1].items()), errors


def test_a_stage_that_was_begun_with_another_layout(place: Path) -> None:
    """Oracle: the window, in the message; what was begun is not gone on with as if it were this layout's."""
    out = place.parent / "begun"
    assert graft(read_recipe(place, [f"run.out={out}"]), small.Quiet("align", 3)) == 2
    message = r"align\.mixers\.0\.attention\.window is 8, but the stage in .* was begun with 16"
    with pytest.raises(InputError, match=message):
        graft(read_recipe(place, [f"run.out={out}", "layout.mixer.window=8"]), small.Quiet())


def test_another_share_needs_no_new_alignment(place: Path, undisturbed: Path) -> None:
    """Oracle: the share that is asked for, by the alignment and the probe that were made for another one."""
    out = place.parent / "share"
    shutil.copytree(undisturbed, out, ignore=shutil.ignore_patterns("model", "hybrid", "distil", "lengthen", "tune"))
    shutil.copytree(undisturbed / "align", out / "align", dirs_exist_ok=True)
    before = (out / "align" / "mixers.safetensors").stat().st_mtime_ns
    recipe = read_recipe(place, [f"run.out={out}", "layout.keep=0.25"])
    assert graft(recipe, small.Quiet(), "probe") == 0
    assert len(small.facts(out / "probe")["result"]["replaced"]) == 3
    assert (out / "align" / "mixers.safetensors").stat().st_mtime_ns == before


WRONG = [
    ("data.eval_tokens=1", "hold out no text"),
    ("distil.stages=[]", r"distil\.stages is \[\]"),
    ("control.cross_entropy=0.0", r"control\.cross_entropy is 0"),
    ("control.donor_lr=0.5", "control is 'given donor_lr"),
    ("distil.chats=0.5", r"distil\.chats is 0\.5"),
    ("layout.mixer.d_states=4", "unknown field 'd_states'"),
    ("layout.mixer.kv_from=0", r"mixer\.kv_from is 0"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_recipes_write_nothing(place: Path, change: str, message: str) -> None:
    """Oracle: one sentence, and a directory that is not there."""
    out = place.parent / "wrong"
    with pytest.raises(InputError, match=message):
        graft(read_recipe(place, [f"run.out={out}", change]), small.Quiet())
    assert not out.exists()


def test_a_stage_that_is_added_later(place: Path, undisturbed: Path) -> None:
    """Oracle: the graft that had all stages from its beginning: one that gets its last stage later has its weights."""
    out = place.parent / "later"
    text = place.read_text()
    short = place.with_name("short.toml")
    short.write_text(text[: text.index("[tune]")] + text[text.index("[control]") :])
    assert graft(read_recipe(short, [f"run.out={out}"]), small.Quiet()) == 0
    assert graft(read_recipe(place, [f"run.out={out}"]), small.Quiet()) == 0
    assert_same_weights(out / "model", undisturbed / "model")


def test_a_model_of_somebody_elses(place: Path) -> None:
    """Oracle: the directory, in one sentence, before anything is written into it."""
    taken = place.parent / "taken"
    (taken / "model").mkdir(parents=True)
    with pytest.raises(InputError, match="holds a model, but no graft that it came from"):
        graft(read_recipe(place, [f"run.out={taken}"]), small.Quiet())
    assert [file.name for file in taken.rglob("*")] == ["model"]


def test_everything_again_is_nothing(place: Path, undisturbed: Path) -> None:
    """Oracle: the files of the finished graft, unchanged."""
    before = {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*.safetensors")}
    assert graft(read_recipe(place), small.Quiet()) == 0
    assert before == {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*.safetensors")}
