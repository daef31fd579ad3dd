"""A small run on disk: a tokenizer, shards of these tests' own texts, and a configuration."""

import json
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from braidlm.text.tokenizer import Tokenizer
from braidlm.train.data.build import build
from braidlm.train.data.recipe import Recipe

CONFIG = """
[model]
tokenizer = "tokenizer"
[model.spec]
vocab = 300
width = 32
tied = true
norm = { eps = 1e-5 }
[[model.spec.blocks]]
mixer = { kind = "Mamba2", heads = 4, head_dim = 16, d_state = 16 }
ffn = { kind = "Mlp", hidden = 48 }
[[model.spec.blocks]]
mixer = { kind = "Hyena", d_state = 4, filters = 32 }
[data]
shards = "shards"
[[stages]]
steps = 30
batch_size = 2
seq_len = 128
[optimizer]
lr = 1e-2
[schedule]
warmup = 3
[run]
out = "out"
evaluate = 10
sample = 20
sample_tokens = 8
prompt = "The"
"""


def make(place: Path) -> None:
    """Fills a directory with a tokenizer, shards and a configuration, `run.toml`."""
    texts = [file.read_text() for file in sorted(Path(__file__).parent.glob("test_*.py"))]
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=300, special_tokens=["<e>"], initial_alphabet=alphabet)
    )
    (place / "tokenizer").mkdir()
    made.save(str(place / "tokenizer" / "tokenizer.json"))
    (place / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<e>"}))
    lines = (json.dumps({"text": text}) for text in texts)
    (place / "texts.jsonl").write_text("\n".join(lines) + "\n")
    tokenizer = Tokenizer.from_directory(place / "tokenizer")
    build(place / "shards", [place / "texts.jsonl"], tokenizer, Recipe(kind="jsonl", holdout=2))
    (place / "run.toml").write_text(CONFIG)
