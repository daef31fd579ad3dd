"""Mixtures of data: which packed sequence comes from where, whole runs over several directories, and refusals."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braidlm.errors import InputError
from braidlm.text.tokenizer import Tokenizer
from braidlm.train import run as runs
from braidlm.train import training_log
from braidlm.train.config import Config, read_config
from braidlm.train.data.build import build
from braidlm.train.data.mixture import Mixture
from braidlm.train.data.recipe import Recipe
from braidlm.train.loop import Hooks
from braidlm.train.run_data import open_data
from braidlm.train.world import World
from tests.train.packings import OneText


@pytest.mark.parametrize("shares", [(1, 1), (9, 1), (0.5, 0.3, 0.2), (1, 50, 2, 7)])
def test_shares(shares: Sequence[float]) -> None:
    """Oracle: the share of what was given so far, at every place: at most a few sequences away."""
    mixture = Mixture([OneText([0])] * len(shares), shares)
    chosen = mixture.chosen(0, 5000)
    for number, share in enumerate(shares):
        expected = np.arange(1, 5001) * share / sum(shares)
        assert np.abs(np.cumsum(chosen == number) - expected).max() < 4
    assert np.array_equal(mixture.chosen(1234, 100), chosen[1234:1334])


def test_every_token_once() -> None:
    """Oracle: the tokens of each component in order, none twice and none left out, over two different stages."""
    texts = (range(1000), range(1000, 2000), range(2000, 3000))
    mixture = Mixture([OneText(list(text)) for text in texts], (5, 3, 1))
    first = mixture.stage(0, 2, 7, 9)
    second = mixture.stage(first.end, 3, 11, 8)
    packs = [first.pack(step, index) for step in range(9) for index in range(2)]
    packs += [second.pack(step, index) for step in range(8) for index in range(3)]
    assert not any(pack.continues for pack in packs)
    for text in texts:
        ids = torch.cat([pack.ids_T for pack in packs if int(pack.ids_T[0]) in text]).tolist()
        assert ids == list(text)[: len(ids)] and len(ids) > 20


@pytest.fixture
def mixed(place: Path) -> Path:
    """A directory with a run, shards of texts and shards of conversations."""
    talks = [
        {"messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"It is {n}."}]}
        for n in range(60)
    ]
    (place / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)) + "\n")
    turn = "{{ m['role'] }}: {% generation %}{{ m['content'] }}{% endgeneration %}"
    template = f"{{% for m in messages %}}{turn}\n{{% endfor %}}"
    settings = {"eos_token": "<e>", "chat_template": template}
    (place / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = Tokenizer.from_directory(place / "tokenizer")
    build(place / "chats", [place / "talks.jsonl"], tokenizer, Recipe(kind="chat", holdout=3))
    text = (place / "run.toml").read_text()
    parts = (
        '[[data.mixture]]\nshards = "shards"\nshare = 0.75\n'
        '[[data.mixture]]\nshards = "chats"\nshare = 0.25\npacking = "whole"\n'
    )
    (place / "run.toml").write_text(text.replace('[data]\nshards = "shards"\n', parts))
    return place


QUIET = ["run.sample=0", "run.tensorboard=false", "run.checkpoint=3", "run.evaluate=4", "stages.0.steps=8"]


def logged(asked: Config) -> list[dict[str, Any]]:
    lines = training_log.read_log(Path(asked.run.out) / training_log.FILE)
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_a_whole_run(mixed: Path) -> None:
    """Oracle: the same run without a kill, line by line; the directories may be moved; the card names all sources."""
    asked = read_config(mixed / "run.toml", QUIET)
    prepared = runs.prepare(asked, World())
    assert runs.train(prepared, Hooks()) == 0
    runs.finish(prepared, World())
    card = (mixed / "out" / "model" / "README.md").read_text()
    assert "texts.jsonl" in card and "talks.jsonl" in card
    killed = replace(asked, run=replace(asked.run, out=str(mixed / "killed")))
    runs.prepare(killed, World()).trainer.run(until=5)
    (mixed / "chats").rename(mixed / "moved")
    components = (asked.data.mixture[0], replace(asked.data.mixture[1], shards=str(mixed / "moved")))
    moved = replace(killed, data=replace(asked.data, mixture=components))
    again = runs.prepare(moved, World())
    assert again.trainer.step == 3
    again.trainer.run()
    assert logged(killed) == logged(asked)
    assert len({line["eval_loss"] for line in logged(asked) if "eval_loss" in line}) == 2
    other = replace(moved, data=replace(moved.data, mixture=(replace(components[0], share=0.5), components[1])))
    with pytest.raises(InputError, match=r"data\.mixture\.0\.share is 0\.5, but the run of .* was begun with 0\.75"):
        runs.prepare(other, World())
    swapped = replace(components[1], shards=components[0].shards, packing="whole", on_too_long="truncate")
    with pytest.raises(InputError, match=r"data\.mixture\.1\.on_too_long is 'truncate'"):
        runs.prepare(replace(moved, data=replace(moved.data, mixture=(components[0], swapped))), World())


def test_evaluations(mixed: Path) -> None:
    """Oracle: by hand: held-out documents of both directories, and a file of either; nothing else is evaluated."""
    asked = read_config(mixed / "run.toml", QUIET)
    tokenizer = Tokenizer.from_directory(mixed / "tokenizer")
    found = open_data(asked.data, tokenizer, 300)
    assert list(found.made_from) == ["data.mixture.0.shards", "data.mixture.1.shards"]
    assert len([pack for pack in found.eval_packs if bool((pack.targets_T < 0).sum() > len(pack.lengths))]) == 1
    (mixed / "more.txt").write_text("A text of its own.")
    (mixed / "copy.txt").write_text("A text of its own.")
    with pytest.raises(InputError, match=r"data\.eval_files names 'none\.txt', which is no source"):
        open_data(replace(asked.data, eval_files=("none.txt",)), tokenizer, 300)
    build(mixed / "one", [mixed / "more.txt", mixed / "run.toml"], tokenizer, Recipe())
    build(mixed / "two", [mixed / "copy.txt"], tokenizer, Recipe())
    both = tuple(replace(asked.data.mixture[0], shards=str(mixed / name)) for name in ("one", "two"))
    with pytest.raises(InputError, match=r"copy\.txt.* is the same text as a document of .*one that is evaluated"):
        open_data(replace(asked.data, mixture=both, eval_files=("more.txt",)), tokenizer, 300)


def test_what_is_wrong_is_said(mixed: Path) -> None:
    """Oracle: the sentences."""
    for change, said in {
        "data.shards=shards": r"data is \['shards', 'mixture'\], but must be one of shards, task or mixture",
        "data.mixture=[]": r"data is 'nothing', but must be one of shards, task or mixture",
        "data.packing=whole": r"data\.packing is 'whole', but must be set in each of data\.mixture",
        "data.mixture.0.share=0": r"mixture\.share is 0, but must be above 0",
        "data.mixture.1.share=1e-17": r"data\.mixture\.1\.share is 1e-17, but must be at least 1e-12 of the sum",
        "run.carry_state=true": r"run\.carry_state is True, but must be false unless data\.shards",
    }.items():
        with pytest.raises(InputError, match=said):
            read_config(mixed / "run.toml", [change])
