"""The model that comes with braidlm, as a user meets it."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.checkpoints import embedded
from braidlm.spec import Hyena, Mamba2, Parallel

# Mark Twain, The Adventures of Tom Sawyer (1876), chapter 1: public domain, and not among what was learned.
UNSEEN = """\
The old lady pulled her spectacles down and looked over them about the room; then she put them up and looked out
under them. She seldom or never looked through them for so small a thing as a boy; they were her state pair, the pride
of her heart, and were built for "style," not service--she could have seen through a pair of stove-lids just as well.
She looked perplexed for a moment, and then said, not fiercely, but still loud enough for the furniture to hear.
"""
SEEN = "In the beginning God created the heaven and the earth. And the earth was without form, and void;"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return braidlm.load(embedded.NAME)


def demo(*options: str) -> dict[str, object]:
    """`braid demo --json`, where nothing can be downloaded."""
    run = [sys.executable, "-m", "braidlm", "demo", "--json", *options]
    offline = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    return json.loads(subprocess.run(run, check=True, capture_output=True, text=True, env=offline, timeout=120).stdout)


def test_it_is_small_and_complete() -> None:
    """Oracle: less than 8 MB with tokenizer, card and licence."""
    files = {file.name: file.stat().st_size for file in embedded.DIRECTORY.iterdir() if file.is_file()}
    assert {"braidlm.json", "model.safetensors", "tokenizer.json", "README.md", "LICENSE"} <= set(files)
    assert sum(files.values()) < 8_000_000


def test_it_braids_every_kind_of_layer(model: LanguageModel) -> None:
    """Oracle: the description: state-space, parallel heads with a window and meta tokens, gated convolution."""
    mixers = [block.mixer for block in model.spec.blocks]
    assert {type(mixer) for mixer in mixers} == {Mamba2, Parallel, Hyena}
    assert model.spec.meta_tokens and all(m.attention.window for m in mixers if isinstance(m, Parallel))
    assert 2e6 < sum(parameter.numel() for parameter in braidlm.build(model.spec).network.parameters()) < 8e6


def bits_a_byte(model: LanguageModel, text: str) -> float:
    ids = torch.tensor(model.encode(text))
    logits = model.forward([ids[:-1]])[0].float()
    return float(F.cross_entropy(logits, ids[1:], reduction="sum")) / math.log(2) / len(text.encode())


def test_it_has_learned_english(model: LanguageModel) -> None:
    """Oracle: bounds by hand: a model of letter frequencies needs over 4 bits a byte, 8 are no knowledge at all."""
    assert bits_a_byte(model, UNSEEN) < 2.6
    assert bits_a_byte(model, SEEN) < 1.5


def test_the_demo_writes_and_goes_on_from_its_session() -> None:
    """Oracle: `generate` with the same seed; nothing of the stored text is read again but the last token, which had no
    successor yet; bytes of state as the description says, and constant from the window on.
    """
    found = demo("In the beginning", "--max-tokens", "24", "--seed", "3")
    written = braidlm.load(embedded.NAME).generate(
        "In the beginning", max_tokens=24, temperature=0.8, min_p=0.02, seed=3
    )
    assert found["text"].startswith("In the beginning" + written)
    resumed = found["resumed"]
    assert resumed["tokens"] == 24 and resumed["recomputed"] == 0 and resumed["computed"] == 1
    state = found["state_bytes"]
    assert state["10000"] == pytest.approx(state["100000"], rel=0.05)
    assert found["transformer_bytes"]["100000"] == 100 * found["transformer_bytes"]["1000"]
    assert found["tokens_per_s"] > 0


def test_the_demo_shows_what_it_does() -> None:
    """Oracle: the sentences and the table."""
    run = [sys.executable, "-m", "braidlm", "demo", "It was", "--max-tokens", "8"]
    shown = subprocess.run(run, check=True, capture_output=True, text=True, timeout=120).stdout
    assert "It was" in shown and "tokens at" in shown and "100,000 tokens" in shown and "transformer" in shown


def test_its_states_agree(tmp_path: Path) -> None:
    """Oracle: `braid verify`: whole, in parts, token by token, ragged, forked and reloaded give the same."""
    run = [sys.executable, "-m", "braidlm", "verify", embedded.NAME]
    assert subprocess.run(run, capture_output=True, timeout=280, check=False).returncode == 0
