"""Usable length: criteria by hand, models that forget by construction, and what is written into a directory."""

import json
from pathlib import Path
from random import Random

import pytest
import torch

import braidlm
from braidlm.adapters import StateTuning, attach_initial, detach_initial, save_initial
from braidlm.api.language_model import LanguageModel
from braidlm.api.loading import read_described
from braidlm.errors import CheckpointError, ContextLengthError, InputError
from braidlm.eval.grid import grid_items
from braidlm.eval.item_maker import ItemMaker
from braidlm.eval.length_card import verdict, write_usable_length
from braidlm.eval.likelihood import Likelihood, likelihood
from braidlm.eval.recall import RecallScore, recall
from braidlm.eval.scores import wilson
from braidlm.eval.tasks import items
from braidlm.eval.usable_length import (
    Break,
    Criteria,
    LengthScore,
    increasing,
    measure_lengths,
    usable_length,
)
from tests.checkpoints.gguf_files import refused
from tests.eval.models import induction_model
from tests.quant.small import model_of

LENGTHS = (150, 300, 360)


def score(length: int, perplexity: float, **shares: float) -> LengthScore:
    recall = {task: RecallScore(10, share, wilson(round(10 * share), 10), share, 1.0) for task, share in shares.items()}
    return LengthScore(length, Likelihood(0, length - 1, length, 0.0, perplexity), recall)


def scores(perplexities: list[float], **shares: list[float]) -> list[LengthScore]:
    return [
        score(100 * 2**n, perplexity, **{task: of_task[n] for task, of_task in shares.items()})
        for n, perplexity in enumerate(perplexities)
    ]


def far_text() -> torch.Tensor:
    """Tokens whose last part was seen 240 tokens before, and which repeat every forty between."""
    drawn = Random(0).sample(range(400), 100)
    first, between = drawn[:60], drawn[60:]
    return torch.tensor(first + between * 6 + first)


def test_criteria() -> None:
    """Oracle: by hand: the best earlier value, not the last one; the first break of all; ties and no numbers."""
    tenth = Criteria(tolerance=0.1, recall_share=0.8)
    holds = usable_length(scores([10, 8, 8.7, 8.8], needle=[0.5, 0.9, 0.8, 0.72]), tenth)
    assert (holds.usable_length, holds.breaks, holds.unanswered) == (800, (), ())
    rises = usable_length(scores([10, 8, 8.7, 8.9], needle=[0.5, 0.9, 0.8, 0.72]), tenth)
    assert (rises.usable_length, rises.breaks) == (400, (Break("perplexity", 800, 8.9, 8),))
    falls = usable_length(scores([10, 8, 8.7, 8.9], needle=[0.5, 0.9, 0.7, 0.9], mqar=[0, 0, 0, 0]), tenth)
    assert falls.usable_length == 200
    assert falls.breaks == (Break("perplexity", 800, 8.9, 8), Break("needle", 400, 0.7, 0.9))
    assert falls.unanswered == ("mqar",)
    assert usable_length(scores([10, float("nan")]), tenth).usable_length == 100
    assert usable_length(scores([10, 12]), Criteria(tolerance=0.3)).usable_length == 200
    assert increasing([300, 20, 300]) == [20, 300]
    assert "recall keeps 80%" in verdict(falls) and "No question of mqar was answered" in verdict(falls)
    assert "recall" not in verdict(usable_length(scores([10, 8], mqar=[0, 0]), tenth))


def test_measured() -> None:
    """Oracle: perplexity by position and recall of the same functions alone, a length at a time."""
    model, told = model_of("hymba"), []
    sequences = list(torch.randint(model.spec.vocab, (2, 130), generator=torch.Generator().manual_seed(0)))
    made = grid_items(ItemMaker(None, model.spec.vocab), ["mqar", "induction"], [40, 120], 2)
    found = measure_lengths(model, sequences, made, [120, 40], lambda *counts: told.append(counts))
    assert told == [(done, 10) for done in range(1, 11)]
    whole = likelihood(model, [row[:120] for row in sequences], borders=(40,))
    assert [one.likelihood for one in found] == list(whole.buckets)
    assert [(part.first, part.last) for part in whole.buckets] == [(0, 39), (40, 118)]
    for one in found:
        maker = ItemMaker(None, model.spec.vocab)
        expected = {
            name: recall(model, list(items(name, maker, one.length, 2))).whole for name in ("mqar", "induction")
        }
        assert one.recall == expected


@pytest.mark.parametrize(("window", "usable"), [(None, 360), (64, 300)])
def test_a_window_breaks_perplexity(window: int | None, usable: int) -> None:
    """Oracle: a model that recalls by construction: what it saw 240 tokens ago is beyond a window of 64 alone."""
    found = measure_lengths(induction_model(400, window=window), [far_text()], {}, LENGTHS)
    report = usable_length(found, Criteria())
    assert report.usable_length == usable
    assert [one.measure for one in report.breaks] == ([] if window is None else ["perplexity"])


@pytest.mark.parametrize(("window", "usable"), [(None, 160), (64, 40)])
def test_a_window_breaks_recall(window: int | None, usable: int) -> None:
    """Oracle: a model that recalls by construction; a window of 64 keeps a part of longer haystacks."""
    made = grid_items(ItemMaker(None, 400), ["mqar"], [40, 160], 4)
    repeated = torch.arange(20).repeat(8)
    model = induction_model(400, window=window)
    report = usable_length(measure_lengths(model, [repeated], made, [40, 160]), Criteria())
    assert report.usable_length == usable
    assert [one.measure for one in report.breaks] == ([] if window is None else ["mqar"])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model_of("llama").save(tmp_path / "hf")
    model_of("llama").save(tmp_path / "own", "braidlm")
    return tmp_path


@pytest.mark.parametrize("layout", ["hf", "own"])
def test_written_into_a_directory(layout: str, saved: Path) -> None:
    """Oracle: what loading reads; the other keys as they were; a later section takes the place of the first."""
    place = saved / layout
    file = next(place / name for name in ("braidlm.json", "config.json") if (place / name).exists())
    before, logits = json.loads(file.read_text()), braidlm.load(place).forward([[1, 2, 3]])
    assert read_described(place).usable_length is None
    write_usable_length(usable_length(scores([10, 8], needle=[0.5, 0.9]), Criteria()), place)
    (place / "README.md").write_text((place / "README.md").read_text() + "\n## Licence\n\nFree.\n")
    write_usable_length(usable_length(scores([10, 12], needle=[0.5, 0.9]), Criteria()), place)
    assert json.loads(file.read_text()) == before | {"usable_length": 100}
    model = braidlm.load(place)
    assert read_described(place).usable_length == model.origin.usable_length == 100
    assert torch.equal(model.forward([[1, 2, 3]])[0], logits[0])
    assert "usable length" in repr(model) and "100 tokens" in repr(model)
    card = (place / "README.md").read_text()
    assert card.startswith(f"# {layout}\n\n## Usable length\n") and card.endswith("## Licence\n\nFree.\n")
    assert card.count("## Usable length") == 1 and "| 200 | 12 | 90% of 10 |" in card
    assert "At 200, text has perplexity 12 after perplexity 10 before." in card


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# A\n\n{}\n# Citation\n\nkeep me", "# A\n\n{}\n# Citation\n\nkeep me"),
        ("{}", "{}"),
        ("", "{}"),
        ("# A\n\n## Usable length", "# A\n\n{}"),
        ("## Usable length\n\n## B\n", "{}\n## B\n"),
        ("### Usable length\n\nMine.\n", "### Usable length\n\nMine.\n\n{}"),
        ("## Usable length\n\nMine.\n\n{}\nAnd this.\n", "## Usable length\n\nMine.\n\n{}\nAnd this.\n"),
        ("# A\r\n\r\nLines.\r\n", "# A\r\n\r\nLines.\n\n{}"),
    ],
)
def test_the_rest_of_a_card(before: str, after: str, saved: Path) -> None:
    """Oracle: by hand: what the user wrote, with the section alone changed; a second time the same."""
    card = saved / "hf" / "README.md"
    old, new = (usable_length(scores([10, last]), Criteria()) for last in (8, 12))
    card.write_text("")
    write_usable_length(old, saved / "hf")
    card.write_bytes(before.replace("{}", card.read_text()).encode())
    for _ in range(2):
        write_usable_length(new, saved / "hf")
        made = card.read_bytes().decode()
        begin, end = made.rindex("## Usable length\n\nUsable up to"), made.index("<!-- end of usable length -->\n") + 30
        assert "| 200 | 12 |" in made[begin:end]
        assert made[:begin] + "{}" + made[end:] == after


@pytest.mark.parametrize("format", ["hf", "braidlm"])
def test_other_weights(format: str, tmp_path: Path) -> None:
    """Oracle: no length and no warning once weights were quantized, while loading too, or run with an adapter."""
    model_of("llama").save(tmp_path / "one", format)
    write_usable_length(usable_length(scores([10, 8]), Criteria()), tmp_path / "one")
    model = braidlm.load(tmp_path / "one")
    assert model.using().origin.usable_length == 200
    assert braidlm.load(tmp_path / "one", quantize="int8").origin.usable_length is None
    assert read_described(tmp_path / "one", "int8").usable_length is None
    attach_initial(model.network, StateTuning(positions=2))
    save_initial(model.network, tmp_path / "initial.safetensors")
    detach_initial(model.network)
    model.load_initial_state("task", tmp_path / "initial.safetensors")
    assert model.using(initial="task").origin.usable_length is None and model.origin.usable_length == 200
    model.quantize("int8")
    model.save(tmp_path / "two", "braidlm")
    assert read_described(tmp_path / "two").usable_length is None


@pytest.mark.parametrize(("format", "written"), [("hf", "braidlm"), ("braidlm", "hf")])
def test_saving_again(format: str, written: str, tmp_path: Path) -> None:
    """Oracle: the length that was written, in the other layout; none once weights were changed."""
    model = model_of("llama")
    model.save(tmp_path / "one", format)
    write_usable_length(usable_length(scores([10, 8]), Criteria()), tmp_path / "one")
    again: LanguageModel = braidlm.load(tmp_path / "one")
    again.save(tmp_path / "two", written)
    assert read_described(tmp_path / "two").usable_length == 200
    assert again.origin.without_measurements().usable_length is None


def test_refusals(saved: Path) -> None:
    """Oracle: the sentences."""
    model, row = model_of("llama"), torch.arange(60)
    refused(lambda: measure_lengths(model, [row], {}, [20, 80]), InputError, "greatest length, 80 tokens")
    refused(lambda: measure_lengths(model, [], {}, [20, 40]), InputError, "give longer texts")
    refused(lambda: increasing([20]), InputError, "at least two")
    refused(lambda: Criteria(tolerance=-1), InputError, "tolerance is -1")
    refused(lambda: Criteria(recall_share=0), InputError, "share of recall is 0")
    short = braidlm.ModelSpec.from_json(model.spec.to_json() | {"max_positions": 30})
    refused(lambda: measure_lengths(braidlm.build(short), [row], {}, [20, 40]), ContextLengthError, "40", "30")
    report = usable_length(scores([10, 8]), Criteria())
    refused(lambda: write_usable_length(report, saved / "none"), InputError, "no directory of a model", "braid convert")
    for layout, name in (("hf", "config.json"), ("own", "braidlm.json")):
        file = saved / layout / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {"usable_length": "long"}))
        refused(lambda place=saved / layout: braidlm.load(place), CheckpointError, "usable_length 'long'", "from 1")
