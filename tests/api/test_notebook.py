"""What a notebook shows: models, descriptions and states in a few lines, public names, hidden states, decoded ids."""

import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.cli.main import app
from braidlm.errors import InputError


@pytest.fixture(scope="module")
def language() -> LanguageModel:
    return braidlm.load("braid-6m")


def test_a_model_is_shown_as_the_command_shows_it(language: LanguageModel) -> None:
    """Oracle: the lines of `braid info`, name by name; the description has those that need no weights."""
    shown = CliRunner().invoke(app, ["info", "braid-6m"]).stdout
    title, *lines = repr(language).splitlines()
    assert title == "LanguageModel"
    assert [line.split() for line in lines] == [line.split() for line in shown.splitlines()]
    title, *described = repr(language.spec).splitlines()
    assert title == "ModelSpec"
    assert [line.split() for line in described] == [line.split() for line in lines[: len(described)]]
    assert str(language) == repr(language) and str(language.spec) == repr(language.spec)
    assert len(lines) < 15 and max(map(len, lines)) < 100


def test_a_state_is_one_short_line(language: LanguageModel) -> None:
    """Oracle: by hand: the tokens that each sequence has seen; the bytes are the state's own."""
    state = language.new_state(2)
    language.forward([[1, 2, 3], [4]], state=state)
    assert repr(state).startswith("BatchState(2 sequences after 3, 1 tokens; ")
    assert f"{state.nbytes / 2**20:.1f} MiB in bfloat16)" in repr(state)
    assert repr(language.new_state(1, "int8")).endswith(" in bfloat16, keys and values in int8)")
    assert len(repr(language.new_state(1000))) < 120


def test_public_names_are_listed_and_lazy() -> None:
    """Oracle: a fresh interpreter: the names that `__all__` has are in `dir`, and torch is not imported for it."""
    code = "import sys, braidlm; names = dir(braidlm); print('torch' in sys.modules, *names); braidlm.laod"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    torch_is_there, *names = done.stdout.split()
    assert torch_is_there == "False"
    assert {name for name in names if not name.startswith("_")} == {
        *(name for name in braidlm.__all__ if not name.startswith("_")), "engine", "generation", "spec",
    }  # fmt: skip
    assert done.stderr.strip().endswith("module 'braidlm' has no attribute 'laod'; did you mean 'load'?")
    assert all(getattr(braidlm, name) is not None for name in names)


def test_decode_is_the_way_back(language: LanguageModel) -> None:
    """Oracle: the text; ids as a list, a tensor and an array are the same ids."""
    ids = language.encode("Call me Ishmael.")
    assert language.decode(ids) == language.decode(torch.tensor(ids)) == "Call me Ishmael."
    assert language.decode(torch.tensor(ids).numpy()) == "Call me Ishmael."
    assert language.decode([]) == ""
    for wrong, words in ((["a"], "whole numbers"), ([[1], [2]], "whole numbers"), ([-1], "-1"), ([4096], "4096")):
        with pytest.raises(InputError, match=words):
            language.decode(wrong)
    with pytest.raises(InputError, match="no tokenizer"):
        braidlm.build(language.spec).decode([1])


def test_hidden_states_are_what_the_head_takes(language: LanguageModel) -> None:
    """Oracle: the residual stream after each block, from `forward`; the head's product with "norm" is the logits."""
    plain, ids = braidlm.build(language.spec), torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        hidden, again = plain.hidden_states(ids), plain.forward(ids, hidden_states=["blocks.3"])
        logits = hidden["norm"] @ plain.network.embed.weight.T * plain.spec.logit_scale
        (of_a_list,) = plain.hidden_states(ids.tolist(), ["blocks.3"]).values()
    assert list(hidden) == ["embed", *(f"blocks.{i}" for i in range(6)), "norm"]
    assert all(states.shape == (1, 3, 256) for states in hidden.values())
    assert torch.equal(again.hidden_states["blocks.3"], hidden["blocks.3"])
    assert torch.equal(of_a_list[0], hidden["blocks.3"][0])
    torch.testing.assert_close(logits, again.logits)
