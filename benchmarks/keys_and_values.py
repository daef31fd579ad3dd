"""What keys and values in few bits lose: divergence on real text, and recall of needles in a long one.

    python -m benchmarks.keys_and_values --text FILE

The text, of some 70,000 characters or more, is read by SmolLM2-135M in windows of its whole context. Needles
are looked up by a model whose weights are constructed, so that it recalls whatever its keys and values still
hold: one layer notes each token's predecessor, the next attends where the predecessor is the present token
(an induction head, Olsson et al. 2022). The last line is one JSON object.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

import braidlm
from braidlm import LanguageModel
from braidlm.eval.divergence import divergence
from braidlm.eval.sequences import windows
from braidlm.spec import Attention, Block, ModelSpec, Norm

KINDS = ("bf16", "fp8", "int8")
CODE, VOCAB = 256, 4096  # dimensions of a token's random code
SHARPNESS = 48.0  # score of a match; chance overlaps of codes score a few sixteenths of it


def induction_model() -> LanguageModel:
    """Codes in the first half of the stream; the predecessor's and a token's own, summed, in the second."""
    attention: Any = {"heads": 1, "kv_heads": 1, "head_dim": CODE, "scale": 1.0}
    blocks = (Block(mixer=Attention(**attention, window=2)), Block(mixer=Attention(**attention)))
    spec = ModelSpec(vocab=VOCAB, width=2 * CODE, blocks=blocks, norm=Norm(eps=1e-6), tied=True)
    model = braidlm.build(spec, dtype="bfloat16")
    network: Any = model.network
    first, second = (block.mixer for block in network.blocks)
    codes = torch.randn(VOCAB, CODE, generator=torch.Generator().manual_seed(0))
    eye, none = torch.eye(CODE), torch.zeros(CODE, CODE)
    # What the norm before each layer divides by: the stream holds one code, then that and a sum of two.
    one, three = math.sqrt(1 / (2 * CODE)), math.sqrt(3 / (2 * CODE))
    weights = {
        network.embed.weight: torch.cat([codes / codes.norm(dim=-1, keepdim=True), torch.zeros_like(codes)], -1),
        first.q_proj.weight: torch.cat([none, none], -1),
        first.k_proj.weight: torch.cat([none, none], -1),
        first.v_proj.weight: torch.cat([one * eye, none], -1),
        first.o_proj.weight: torch.cat([none, 2 * eye]),
        second.q_proj.weight: torch.cat([SHARPNESS * three * eye, none], -1),
        second.k_proj.weight: torch.cat([-three * eye, three * eye], -1),
        second.v_proj.weight: torch.cat([three * eye, none], -1),
        second.o_proj.weight: torch.cat([4 * eye, none]),
    }
    with torch.no_grad():
        for place, value in weights.items():
            place.copy_(value)
        for norm in (network.norm, *(block.mixer_norm for block in network.blocks)):
            norm.weight.fill_(1)
    return model


def recall(model: LanguageModel, length: int, needles: int, kv_dtype: str) -> float:
    """The share of needles, pairs of tokens spread over `length` others, whose second token is found by its first."""
    generator = torch.Generator().manual_seed(length)
    keys, values = torch.randperm(VOCAB // 2, generator=generator)[: 2 * needles].view(2, -1)
    ids = torch.randint(VOCAB // 2, VOCAB, (length,), generator=generator)  # no needle by chance
    places = torch.arange(needles) * (length // needles)
    ids[places], ids[places + 1] = keys, values
    state = model.new_state(kv_dtype=kv_dtype)
    for part in ids.split(2048):
        model.forward(part[None], state=state, logits=None)
    asked = state.select([0] * needles)
    found = model.forward(keys[:, None], state=asked, logits="last").argmax(-1)
    return float((found == values).float().mean())


def main() -> None:
    """Both measurements, for each kind of storage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--length", type=int, default=32768)
    parser.add_argument("--needles", type=int, default=64)
    given = parser.parse_args()
    model, needle = braidlm.load("smollm2-135m", dtype="bfloat16"), induction_model()
    window = model.spec.max_positions or 8192
    text = given.text.read_text(encoding="utf-8")[: 8 * window * given.windows]
    rows = windows(model.encode(text), given.windows * window, window)
    print(f"| keys and values | divergence | perplexity | {given.needles} needles in {given.length} tokens |")
    print("| --- | --- | --- | --- |")
    found = {}
    for kind in KINDS:
        whole = divergence(model, model, rows, kv_dtype=kind).whole
        share = recall(needle, given.length, given.needles, kind)
        found[kind] = whole._asdict() | {"recall": share}
        print(f"| {kind} | {whole.divergence:.5f} | {whole.perplexity:.3f} | {share:.0%} |", flush=True)
    print(f"\nwindows of {window} tokens, bfloat16: perplexity {whole.reference_perplexity:.3f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
