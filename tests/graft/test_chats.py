"""Chats that a donor answers, for a graft to learn from."""

import json
from pathlib import Path

import pytest

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.engine import Request
from braidlm.errors import InputError
from braidlm.generation.sampling import Sampling
from braidlm.graft.chats import FILE, Chats, make_chats
from braidlm.train.data.shards import Shards
from tests.chatty import write_chatty
from tests.graft.small import Quiet

ASKED = Chats(prompts="", count=5, max_tokens=6, parallel=2, holdout=0.0)


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return braidlm.load(write_chatty(tmp_path_factory.mktemp("chats") / "donor"))


def _asked(place: Path) -> Chats:
    file = place / "prompts.txt"
    file.write_text("Who made the light?\n\nWhat is a day?\n  Name a river.\n")
    return Chats(**{**vars(ASKED), "prompts": str(file)})


def test_answers_are_the_donors(donor: LanguageModel, tmp_path: Path) -> None:
    """Oracle: the donor's own answers, one by one, with the same seeds; prompts come again in their order."""
    shards = make_chats(donor, _asked(tmp_path), 3, tmp_path / "chats", Quiet())
    chats = [json.loads(line)["messages"] for line in (tmp_path / "chats" / FILE).read_text().splitlines()]
    asked = [chat[0]["content"] for chat in chats]
    assert asked == ["Who made the light?", "What is a day?", "Name a river.", "Who made the light?", "What is a day?"]
    for number, chat in enumerate(chats):
        sampling = Sampling(max_tokens=6, temperature=0.8, seed=3 * 1_000_003 + number)
        with donor.engine() as engine:  # a prompt that is read outside of one rounds otherwise
            alone = engine.submit(Request(ids=tuple(donor.encode(chat[:1])), sampling=sampling))
            text = "".join(token.text for _, token in alone)
        assert chat[1] == {"role": "assistant", "content": text}
    assert donor.tokenizer is not None
    read = Shards(shards, donor.tokenizer)
    assert read.manifest.documents == 5


def test_what_was_answered_stays(donor: LanguageModel, tmp_path: Path) -> None:
    """Oracle: the file of a run that was not cut off: one that was cut in a line goes on to the same."""
    whole = tmp_path / "whole"
    make_chats(donor, _asked(tmp_path), 3, whole, Quiet())
    lines = (whole / FILE).read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / FILE).write_bytes(b"".join(lines[:2]) + lines[2][:20])
    watch = Quiet()
    make_chats(donor, _asked(tmp_path), 3, cut, watch)
    assert (cut / FILE).read_bytes() == (whole / FILE).read_bytes()
    assert watch.heard == ["chats: 4 of 5", "chats: 5 of 5"]


def test_refusals(donor: LanguageModel, tmp_path: Path) -> None:
    """Oracle: sentences that name the table or the file."""
    with pytest.raises(InputError, match=r"cannot read chats\.prompts"):
        make_chats(donor, Chats(prompts=str(tmp_path / "none.txt")), 0, tmp_path / "a", Quiet())
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(InputError, match="holds no prompt"):
        make_chats(donor, Chats(prompts=str(tmp_path / "empty.txt")), 0, tmp_path / "a", Quiet())
    plain = braidlm.build(donor.spec, seed=0)
    with pytest.raises(InputError, match="no chat template"):
        make_chats(plain, ASKED, 0, tmp_path / "a", Quiet())
