"""A report from a whole small graft, and its untrained control."""

import json
from dataclasses import replace
from pathlib import Path

import torch

import braidlm
from braidlm.graft.layout import Layout, Rule, candidates
from braidlm.graft.options import MixerOptions
from braidlm.graft.prepared import prepare
from braidlm.graft.recipe import read_recipe
from braidlm.graft.report.control import window_control
from braidlm.graft.report.make import make_report
from braidlm.graft.run import graft
from tests.graft import small
from tests.graft.report.subjects import SMALL, small_model


def test_control() -> None:
    """Oracle: the donor's logits up to the window, and others behind it; the specs of the recipe."""
    donor = small_model()
    rules = (
        Rule(blocks="0", mixer=MixerOptions(kind="parallel", window=20, sink_tokens=2)),
        Rule(blocks="1", mixer=MixerOptions(kind="mamba2")),
    )
    found = candidates(Layout(rules=rules), donor.spec)
    made = window_control(donor, found, [0, 1], 30)
    assert made is not None
    assert [(one.mixer.window, one.mixer.sink_tokens) for one in made.spec.blocks] == [(20, 2), (30, 0)]
    ids = torch.arange(60)[None] % donor.spec.vocab
    expected, actual = donor.forward(ids), made.forward(ids)
    assert torch.equal(actual[:, :20], expected[:, :20]) and not torch.allclose(actual[:, 40:], expected[:, 40:])
    kept = window_control(donor, found, [1], 30)
    assert kept is not None and [one.mixer.window for one in kept.spec.blocks] == [None, 30]


def test_report_of_a_whole_graft(tmp_path: Path) -> None:
    """Oracle: what the stages, the directories and the recipe say; the card lies in a model that loads."""
    recipe = read_recipe(small.make(tmp_path))
    assert graft(recipe, small.Quiet()) == 0
    out, prepared, told = Path(recipe.run.out), prepare(recipe), list[str]()
    replaced = small.facts(out / "probe")["result"]["replaced"]
    settings = replace(SMALL, parts=("text", "state", "speed"), lengths=(64,), seq_len=40, tokens=120)
    model = braidlm.load(out / "model", dtype="float32")
    summary = make_report(prepared, replaced, model, None, settings, out / "model", told.append)
    facts = json.loads((out / "report.json").read_text())
    assert facts["donor"]["name"] == "donor", "no path of this computer"
    assert [stage["stage"] for stage in facts["stages"]] == ["align", "distil", "lengthen", "tune"]
    assert [block["block"] for block in facts["blocks"] if block["replaced"]] == replaced
    assert all(block["error"] is not None and block["lost"] is not None for block in facts["blocks"])
    assert facts["measured"]["text"]["graft"]["tokens"] == 3 * 39 and len(told) == 3 + 3 + 1
    assert summary[0].value == facts["summary"][0]["value"] > 0
    assert (out / "report.html").exists() and "licence" in (out / "model" / "README.md").read_text()
    assert braidlm.load(out / "model").spec == model.spec
