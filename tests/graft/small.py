"""A small donor, shards of text in its tokens, and a recipe for a graft of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import braidlm
from braidlm.graft.probe import Loss
from braidlm.spec import Attention, Block, Mlp, ModelSpec, Norm, Rope
from braidlm.text.tokenizer import Tokenizer
from braidlm.train.loop import Hooks, StepMetrics, Trainer
from tests.train import small

RECIPE = """
donor = "donor"
[layout]
keep = 0.5
mixer = { kind = "parallel", window = 16 }
[data]
shards = "shards"
eval_tokens = 256
[align]
stages = [ { steps = 6, batch_size = 2, seq_len = 64 } ]
evaluate = 3
checkpoint = 2
[probe]
tokens = 256
seq_len = 128
haystacks = 0
[distil]
stages = [ { steps = 4, batch_size = 2, seq_len = 64 } ]
optimizer = { lr = 1e-3 }
donor_lr = 0.1
branch_dropout = { start = 0.5, until = 0.8 }
evaluate = 2
checkpoint = 1
[lengthen]
stages = [ { steps = 3, batch_size = 1, seq_len = 96 } ]
optimizer = { lr = 1e-3 }
carry_state = true
checkpoint = 1
[tune]
stages = [ { steps = 2, batch_size = 1, seq_len = 64 } ]
optimizer = { lr = 1e-3 }
cross_entropy = 1.0
[control]
stages = [ { steps = 2, batch_size = 1, seq_len = 64 } ]
optimizer = { lr = 1e-3 }
cross_entropy = 1.0
[report]
parts = ["text", "state"]
tokens = 256
seq_len = 128
[run]
out = "graft"
dtype = "float32"
"""


def make(place: Path) -> Path:
    """Fills a directory with a donor of four attention blocks, shards and a recipe; the recipe's path."""
    small.make(place)
    attention = Attention(heads=4, kv_heads=2, head_dim=8, rope=Rope(base=1e4, dims=8))
    block = Block(mixer=attention, ffn=Mlp(hidden=48))
    spec = ModelSpec(vocab=300, width=32, blocks=(block,) * 4, norm=Norm(eps=1e-5), tied=True)
    donor = braidlm.build(spec, seed=1)
    donor.tokenizer = Tokenizer.from_directory(place / "tokenizer")
    donor.save(place / "donor")
    (place / "graft.toml").write_text(RECIPE)
    return place / "graft.toml"


class Quiet:
    """Watcher that ends a stage by a signal after some of its steps, if asked to, and keeps what it hears."""

    def __init__(self, stage: str = "", steps: int = 0) -> None:
        self._stage, self._steps = stage, steps
        self.heard: list[str] = []
        self.losses: dict[str, Loss] = {}

    def said(self, text: str) -> None:
        """Keeps a sentence."""
        self.heard.append(text)

    @contextmanager
    def training(self, stage: str, trainer: Trainer) -> Iterator[Hooks]:
        """Hooks that stop the stage in time."""
        made = [0]

        def stepped(_: StepMetrics) -> None:
            made[0] += 1

        yield Hooks(stepped, stop=lambda: 2 if stage == self._stage and made[0] >= self._steps else 0)

    def probed(self, name: str, loss: Loss) -> None:
        """Keeps a variant's loss."""
        self.losses[name] = loss


def facts(place: Path) -> dict[str, object]:
    """What a finished stage has written of itself."""
    return json.loads((place / "finished.json").read_text())
