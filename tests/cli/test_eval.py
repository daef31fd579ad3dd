"""`braid eval`: its tables, rows and JSON against the functions behind them, and its refusals."""

import csv
import io
from pathlib import Path

import pytest

import braidlm
from braidlm.checkpoints import embedded
from braidlm.errors import ContextLengthError, InputError
from braidlm.eval.divergence import divergence
from braidlm.eval.generation import generation, prompts
from braidlm.eval.grid import grid_items, recall_grid
from braidlm.eval.item_maker import ItemMaker
from braidlm.eval.likelihood import likelihood, text_bytes
from braidlm.eval.scores import paired
from braidlm.eval.sequences import windows
from tests.cli.commands import braid, data
from tests.eval.models import induction_model
from tests.quant.small import model_of

TEXT = "In the beginning God created the heaven and the earth. And the earth was without form, and void. " * 12
SMALL = embedded.NAME


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that recalls by construction, one whose window is short, and a text."""
    found = tmp_path_factory.mktemp("eval")
    induction_model(400).save(found / "whole", "braidlm")
    induction_model(400, window=24).save(found / "window", "braidlm")
    (found / "text").write_text(TEXT)
    return found


def rows_of(*arguments: str) -> list[dict[str, str]]:
    result = braid("eval", *arguments, "--csv")
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_recall(place: Path) -> None:
    """Oracle: the same grid in Python; a window of 24 tokens forgets what lies before it."""
    whole, window = str(place / "whole"), str(place / "window")
    asked = ("recall", whole, "--tasks", "mqar", "--lengths", "40,100", "--haystacks", "2", "--depths", "0,1")
    found = data("eval", *asked, "--compare", window)
    items = grid_items(ItemMaker(None, 400), ["mqar"], [40, 100], 2, depths=(0, 1))
    for facts, place_of in zip(found["models"], (whole, window)):
        grid = recall_grid(braidlm.load(place_of), items)
        assert (facts["model"], facts["computed"]) == (place_of, grid.computed)
        cells = [(one["length"], one["depth"], one["exact"], one["nats"]) for one in facts["cells"]]
        assert cells == [(one.length, one.depth, one.score.exact, one.score.nats) for one in grid.cells]
        assert [one["high"] for one in facts["cells"]] == [one.score.interval.high for one in grid.cells]
    far = {(facts["model"], cell["length"]): cell["exact"] for facts in found["models"] for cell in facts["cells"][::2]}
    assert far == {(whole, 40): 1.0, (whole, 100): 1.0, (window, 40): 0.0, (window, 100): 0.0}
    rows = rows_of(*asked)
    assert [(row["task"], row["length"], row["depth"], row["questions"]) for row in rows] == [
        ("mqar", length, depth, "2") for length in ("40", "100") for depth in ("0.0", "1.0")
    ]
    shown = braid("eval", *asked, "--compare", window).stdout
    assert "100 tokens" not in shown and f"100 {window}" in shown
    assert "100% (34%-100%)" in shown
    assert "less" in shown and "-50.0 points of exact answers" in shown


def test_heat_map(place: Path, tmp_path: Path) -> None:
    """Oracle: the words and shares that an SVG names in its comments; a PNG's first bytes."""
    asked = ("eval", "recall", str(place / "whole"), "--tasks", "mqar,selective_copying", "--lengths", "40,80")
    for name in ("map.svg", "map.png"):
        assert braid(*asked, "--haystacks", "1", "--plot", str(tmp_path / name)).exit_code == 0
    drawn = (tmp_path / "map.svg").read_text()
    for words in (
        "mqar",
        "selective_copying",
        "length, tokens",
        "depth of the answer",
        "exact answers, share",
        "whole",
    ):
        assert f"<!-- {words}" in drawn
    assert drawn.count("<!-- 100% -->") >= 2 * 5
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    for name, words in (("map.svg", "exists already"), ("map.gif", ".png, .svg"), ("none/map.svg", "no directory")):
        result = braid(*asked, "--plot", str(tmp_path / name))
        assert isinstance(result.exception, InputError) and words in str(result.exception)


def test_perplexity(place: Path) -> None:
    """Oracle: the same measures in Python, alone and beside the model with its keys and values in full."""
    model = braidlm.load(SMALL)
    sequences = windows(model.encode(TEXT), 200, 64)
    asked = ("perplexity", SMALL, str(place / "text"), "--length", "64", "--tokens", "200")
    found, expected = data("eval", *asked), likelihood(model, sequences)
    assert found["whole"] == expected.whole._asdict()
    assert found["buckets"] == [part._asdict() for part in expected.buckets]
    assert found["length"] == 64
    assert found["bits_per_byte"] == expected.bits_per_byte(text_bytes(model.tokenizer, sequences))
    rows = rows_of(*asked)
    assert [row["positions"] for row in rows] == ["0-31", "32-62", "0-62"]
    assert float(rows[2]["nats"]) == expected.whole.nats
    shown = braid("eval", *asked).stdout
    assert f"{expected.whole.perplexity:.4g}" in shown and f"{found['bits_per_byte']:.4f} bits a byte" in shown
    found = data("eval", *asked, "--kv-dtype", "int8", "--compare", SMALL)
    assert found["whole"] == divergence(model, model, sequences, kv_dtype="int8").whole._asdict()
    assert found["compare"] == SMALL and found["whole"]["divergence"] > 0
    assert "reference: braid-6m" in braid("eval", *asked, "--kv-dtype", "int8", "--compare", SMALL).stdout


def test_generation() -> None:
    """Oracle: the same answers in Python."""
    asked = ("generation", SMALL, "--prompts", "5", "--max-tokens", "6", "--seed", "2")
    expected = generation(braidlm.load(SMALL), prompts(5, seed=2), max_tokens=6)
    (found,) = data("eval", *asked)["models"]
    assert found["answers"] == [one._asdict() for one in expected.answers]
    assert found["scores"][-1]["rule"] == "all" and found["scores"][-1]["passed"] == expected.whole.passed
    assert [row["rule"] for row in rows_of(*asked)] == [*expected.by_kind, "all"]
    shown = braid("eval", *asked).stdout
    assert all(kind in shown for kind in expected.by_kind)


def test_paired() -> None:
    """Oracle: by hand; four trials with differences 0, 1, 1, 0: mean 1/2, deviation 1/sqrt(3)."""
    found = paired([True, False, False, False], [True, True, True, False])
    half = 1.959964 / (3**0.5 * 2)
    assert found == pytest.approx((0.5, 0.5 - half, min(1.0, 0.5 + half)))


def test_refusals(place: Path, tmp_path: Path) -> None:
    """Oracle: the sentences."""
    whole, text = str(place / "whole"), str(place / "text")
    short = braidlm.ModelSpec.from_json(model_of("llama").spec.to_json() | {"max_positions": 60})
    braidlm.build(short, seed=0).save(tmp_path / "short", "braidlm")
    bare = braidlm.ModelSpec.from_json(model_of("llama").spec.to_json() | {"vocab": braidlm.load(SMALL).spec.vocab})
    braidlm.build(bare, seed=0).save(tmp_path / "bare", "braidlm")
    for arguments, kind, words in (
        (("recall", SMALL, "--tasks", "nedle"), InputError, ("'nedle'", "phonebook", "mean 'needle'?")),
        (("recall", SMALL, "--tasks", ","), InputError, ("--tasks is empty",)),
        (("recall", SMALL, "--lengths", "1k"), InputError, ("--lengths is '1k'", "numbers separated by commas")),
        (("recall", SMALL, "--lengths", "20"), InputError, ("needle of 20 tokens: there is no room",)),
        (("recall", whole), InputError, ("no tokenizer",)),
        (("recall", SMALL, "--compare", SMALL), InputError, ("MODEL itself",)),
        (("recall", whole, "--tasks", "mqar", "--compare", SMALL), InputError, ("different tokenizers",)),
        (("recall", str(tmp_path / "short"), "--tasks", "mqar", "--lengths", "80"), ContextLengthError, ("80", "60")),
        (("perplexity", SMALL, text, "--length", "4000"), InputError, ("text has 2", "--length asks", "of 4000")),
        (("perplexity", SMALL, text, "--length", "90", "--tokens", "80"), InputError, ("--tokens takes 80",)),
        (("perplexity", SMALL, str(tmp_path / "none")), InputError, ("cannot read", "none")),
        (("perplexity", SMALL, text, "--compare", str(tmp_path / "bare")), InputError, ("different tokenizers",)),
        (("generation", whole), InputError, ("no tokenizer",)),
    ):
        result = braid("eval", *arguments)
        assert isinstance(result.exception, kind), (arguments, result.output)
        assert all(word in str(result.exception) for word in words), result.exception
