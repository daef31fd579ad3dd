"""`braid eval length`: its JSON and rows against the functions behind it, and what other commands then say."""

import csv
import io
import shutil
from pathlib import Path

import pytest

import braidlm
from braidlm.checkpoints import embedded
from braidlm.cli.load_options import LoadOptions
from braidlm.errors import ContextLengthError, InputError, LengthWarning
from braidlm.eval import length_card
from braidlm.eval.grid import grid_items
from braidlm.eval.item_maker import ItemMaker
from braidlm.eval.sequences import windows
from braidlm.eval.usable_length import Criteria, measure_lengths, usable_length
from tests.cli.commands import braid, data
from tests.quant.small import model_of

TEXTS = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and void. " * 12,
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on. " * 14,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model that may be written to, and two texts."""
    found = tmp_path_factory.mktemp("length")
    shutil.copytree(embedded.DIRECTORY, found / "model")
    for number, text in enumerate(TEXTS):
        (found / f"text{number}").write_text(text)
    return found


def test_length(place: Path) -> None:
    """Oracle: the same measurement in Python, of a trained model whose perplexity falls all along repeated texts."""
    model = braidlm.load(embedded.NAME)
    sequences = [row for text in TEXTS for row in windows(model.encode(text), None, 160)]
    items = grid_items(ItemMaker(model.tokenizer, model.spec.vocab), ["induction"], [80, 160], 2, seed=3)
    report = usable_length(measure_lengths(model, sequences, items, [80, 160]), Criteria(tolerance=0.05))
    asked = ("eval", "length", embedded.NAME, *(str(place / f"text{n}") for n in (0, 1)), "--lengths", "160,80")
    asked += ("--tasks", "induction", "--haystacks", "2", "--tolerance", "0.05", "--seed", "3")
    found = data(*asked)
    assert found["usable_length"] == report.usable_length
    assert found["breaks"] == [one._asdict() for one in report.breaks]
    assert found["unanswered"] == list(report.unanswered)
    assert [row["perplexity"] for row in found["lengths"]] == [one.likelihood.perplexity for one in report.scores]
    assert [row["tokens"] for row in found["lengths"]] == [80 * len(sequences), 79 * len(sequences)]
    rows = list(csv.DictReader(io.StringIO(braid(*asked, "--csv").stdout)))
    assert [row["length"] for row in rows] == ["80", "160"]
    assert [float(row["induction"]) for row in rows] == [one.recall["induction"].exact for one in report.scores]
    assert "Usable up to 160 tokens: perplexity by position rises by at most 5%" in braid(*asked).stdout


def test_written(place: Path) -> None:
    """Oracle: the length in what info tells, and one warning where a text grows beyond it."""
    model, text = str(place / "model"), str(place / "text0")
    result = braid("eval", "length", model, text, "--lengths", "40,80", "--tasks", "induction", "--write")
    assert result.exit_code == 0, result.output
    assert data("info", model)["usable_length"] == 80 and data("info", embedded.NAME)["usable_length"] is None
    assert "80 tokens, as measured" in braid("info", model).stdout
    assert "## Usable length" in (place / "model" / "README.md").read_text()
    with pytest.warns(LengthWarning, match="more than 80 tokens") as noted:
        assert braid("generate", model, TEXTS[0], "--max-tokens", "4").exit_code == 0
    assert len(noted) == 1


@pytest.mark.parametrize("card", ["latin-1", "directory"])
def test_a_card_that_cannot_be_added_to(
    card: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the sentence, before a weight is read."""
    shutil.copytree(place / "model", tmp_path / "model", ignore=shutil.ignore_patterns("README.md"))
    file = tmp_path / "model" / "README.md"
    file.mkdir() if card == "directory" else file.write_bytes("Münster".encode("latin-1"))
    monkeypatch.setattr(LoadOptions, "load", lambda *_: pytest.fail("the model was loaded"))
    result = braid("eval", "length", str(tmp_path / "model"), str(place / "text0"), "--write")
    assert isinstance(result.exception, InputError), result.output
    assert "README.md is no text in UTF-8" in str(result.exception)


def test_shown_though_not_written(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what was measured is printed before writing fails."""
    shutil.copytree(place / "model", tmp_path / "model")

    def full(*_: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr(length_card, "write_usable_length", full)
    asked = ("eval", "length", str(tmp_path / "model"), str(place / "text0"), "--lengths", "40,80", "--write")
    result = braid(*asked, "--tasks", "induction", "--haystacks", "1")
    assert "disk is full" in str(result.exception) and "Usable up to" in result.stdout


def test_refusals(place: Path, tmp_path: Path) -> None:
    """Oracle: the sentences."""
    text, model = str(place / "text0"), str(place / "model")
    (tmp_path / "short").write_text("A short text.")
    braidlm.build(model_of("llama").spec, seed=0).save(tmp_path / "bare", "braidlm")
    few = braidlm.ModelSpec.from_json(braidlm.load(embedded.NAME).spec.to_json() | {"max_positions": 60})
    braidlm.build(few, seed=0).save(tmp_path / "few", "braidlm")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(embedded.DIRECTORY / name, tmp_path / "few" / name)
    for arguments, kind, words in (
        ((model, text, str(tmp_path / "short"), "--lengths", "40,80"), InputError, ("short has 5 tokens", "for 80")),
        ((model, text, "--lengths", "40,80", "--tokens", "70"), InputError, ("--tokens takes 70", "asks for 80")),
        ((model, text, "--lengths", "80"), InputError, ("at least two",)),
        ((model, text, "--lengths", "1k,80"), InputError, ("--lengths is '1k,80'",)),
        ((model, text, "--tasks", "nedle"), InputError, ("'nedle'", "mean 'needle'?")),
        ((model, str(tmp_path / "none")), InputError, ("cannot read", "none")),
        ((model, text, "--write", "--quantize", "int8"), InputError, ("as it is stored", "--quantize")),
        ((model, text, "--write", "--dtype", "float32"), InputError, ("as it is stored", "--dtype")),
        ((embedded.NAME, text, "--write"), InputError, ("no directory of a model",)),
        ((str(tmp_path / "bare"), text), InputError, ("no tokenizer",)),
        ((str(tmp_path / "few"), text, "--lengths", "40,80", "--tasks", "mqar"), ContextLengthError, ("80", "60")),
    ):
        result = braid("eval", "length", *arguments)
        assert isinstance(result.exception, kind), (arguments, result.output)
        assert all(word in str(result.exception) for word in words), result.exception
