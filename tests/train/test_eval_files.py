"""Files that are evaluated each by itself, and never trained on."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import braidlm
from braidlm.cli.main import app
from braidlm.errors import InputError
from braidlm.text.tokenizer import Tokenizer
from braidlm.train import report, training_log
from braidlm.train.config import Loss, read_config
from braidlm.train.data.build import build
from braidlm.train.data.recipe import Recipe
from braidlm.train.data.shards import Shards, find_source
from braidlm.train.data.stream import Stream
from braidlm.train.language_model import LanguageModelObjective

HERE = Path(__file__).parent
NAMES = ("test_loop.py", "test_run.py", "test_optim.py", "packings.py")
APART = ("optim.txt", "books/packings.txt")


@pytest.fixture
def shards(place: Path) -> Shards:
    """Shards of four files in two directories, in place of the one file of `small`."""
    texts = place / "texts"
    (texts / "books").mkdir(parents=True)
    for name in NAMES:
        directory = texts / "books" if name == "packings.py" else texts
        (directory / f"{name.removesuffix('.py').removeprefix('test_')}.txt").write_text((HERE / name).read_text())
    tokenizer = Tokenizer.from_directory(place / "tokenizer")
    return build(place / "files", [texts], tokenizer, Recipe())


def loss_of(model: Path, tokenizer: Path, text: str) -> float:
    """Cross-entropy a token of a file's text, read from its beginning."""
    ids = [*Tokenizer.from_directory(tokenizer).encode(text), 0]
    objective = LanguageModelObjective(braidlm.load(model, dtype="float32").network, Loss())
    pack = Stream(Shards(model.parents[1] / "files", Tokenizer.from_directory(tokenizer)).training, 0)
    made = pack.stage(0, 1, 1, 1).pack(0, 0)
    tokens = torch.tensor(ids)
    targets = torch.cat([tokens[1:], torch.tensor([-100])])
    with torch.no_grad():
        plain = objective(made._replace(ids_T=tokens, targets_T=targets, lengths=(len(ids),))).plain
    return float(plain) / (len(ids) - 1)


def test_files_are_evaluated_by_name(place: Path, shards: Shards) -> None:
    """Oracle: the loss of the written model on each file's text, in the log and on the console; nothing else."""
    changes = {
        "data.shards": "files", "data.eval_files": list(APART), "run.evaluate": 2, "run.sample": 4,
        "run.dtype": "float32", "stages.0.steps": 4,
    }  # fmt: skip
    told = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    found = CliRunner().invoke(app, ["train", str(place / "run.toml"), *told], catch_exceptions=False)
    assert found.exit_code == 0
    log = training_log.read_log(place / "out" / "log.jsonl")
    texts = [(HERE / "test_optim.py").read_text(), (HERE / "packings.py").read_text()]
    for name, text in zip(APART, texts, strict=True):
        values = [(line["step"], line[f"eval/{name}"]) for line in log if f"eval/{name}" in line]
        assert [step for step, _ in values] == [2, 4]
        wanted = loss_of(place / "out" / "model", place / "tokenizer", text)
        assert values[-1][1] == pytest.approx(wanted, rel=1e-4)
        for step, value in values:
            assert f"step {step}: {report.sentence(f'eval/{name}', value)}" in found.output
        assert f"eval/{name} | {values[-1][1]:.4f} nats" in (place / "out" / "model" / "README.md").read_text()
    assert not any("eval_loss" in line for line in log)
    assert "step 4: the model writes 'The" in found.output


def test_files_that_are_kept_apart_are_never_trained_on(shards: Shards) -> None:
    """Oracle: the documents of all packs of some epochs, by the place they came from."""
    apart = shards.apart(APART)
    stage = Stream(apart.training, 0).stage(0, 1, 64, 3 * apart.training.tokens // 64)
    seen = {number for step in range(3 * apart.training.tokens // 64) for number in stage.pack(step, 0).documents}
    assert sorted(Path(apart.training.where(number)).name for number in seen) == ["loop.txt", "run.txt"]
    assert {name: len(documents) for name, documents in apart.files.items()} == dict.fromkeys(APART, 1)


def test_names_of_sources() -> None:
    """Oracle: by hand: a whole name, the end of a path, or a sentence."""
    sources = ["texts/a.txt", "texts/more/a.txt", "texts/emma.txt"]
    assert find_source("texts/a.txt", sources) == 0
    assert find_source("more/a.txt", sources) == 1
    assert find_source("/home/me/texts/emma.txt", sources) == 2
    with pytest.raises(InputError, match=r"'a\.txt', which may be texts/a\.txt, texts/more/a\.txt; say more"):
        find_source("a.txt", sources)
    with pytest.raises(InputError, match=r"'ema\.txt', which is no source of the data; .* did you mean 'emma\.txt'\?"):
        find_source("ema.txt", sources)


def test_what_cannot_be_kept_apart(place: Path, shards: Shards) -> None:
    """Oracle: sentences: nothing left, a name given twice, the same text under another name."""
    with pytest.raises(InputError, match=r"leaves no document of .* to train on"):
        shards.apart(("loop.txt", "run.txt", "optim.txt", "packings.txt"))
    with pytest.raises(InputError, match=r"data\.eval_files is .* must be names that are given once each"):
        read_config(place / "run.toml", ['data.eval_files=["a", "a"]'])
    (place / "texts" / "copy.txt").write_text((HERE / "packings.py").read_text())
    tokenizer = Tokenizer.from_directory(place / "tokenizer")
    copied = build(place / "copied", [place / "texts"], tokenizer, Recipe())
    with pytest.raises(InputError, match=r"copy\.txt is the same text as .*packings\.txt of data\.eval_files"):
        copied.apart(("packings.txt",))
    assert len(copied.apart(("packings.txt", "copy.txt")).training) == 3
