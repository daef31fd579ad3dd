"""What keys and values in few bits lose: divergence on real text, and recall of needles in a long one.

    python -m benchmarks.keys_and_values --text FILE

The text, of some 70,000 characters or more, is read by SmolLM2-135M in windows of its whole context. Needles
are looked up by a model whose weights are constructed, so that it recalls whatever its keys and values still
hold: one layer notes each token's predecessor, the next attends where the predecessor is the present token
(an induction head, Olsson et al. 2022). The last line is one JSON object.
"""

import argparse
import json
from pathlib import Path

import torch
from tests.eval.models import induction_model

import braidlm
from braidlm.eval.divergence import divergence
from braidlm.eval.item import Item, Question
from braidlm.eval.recall import recall
from braidlm.eval.sequences import windows

KINDS = ("bf16", "fp8", "int8")
CODE, VOCAB = 256, 4096  # dimensions of a token's random code


def needles(length: int, count: int) -> Item:
    """Needles, pairs of tokens spread over `length` others; the first of each is a question."""
    generator = torch.Generator().manual_seed(length)
    keys, values = torch.randperm(VOCAB // 2, generator=generator)[: 2 * count].view(2, -1)
    ids = torch.randint(VOCAB // 2, VOCAB, (length,), generator=generator)  # no needle by chance
    places = torch.arange(count) * (length // count)
    ids[places], ids[places + 1] = keys, values
    pairs = zip(keys.tolist(), values.tolist(), (places / length).tolist(), strict=True)
    return Item(tuple(ids.tolist()), tuple(Question((key,), (value,), depth) for key, value, depth in pairs))


def main() -> None:
    """Both measurements, for each kind of storage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--length", type=int, default=32768)
    parser.add_argument("--needles", type=int, default=64)
    given = parser.parse_args()
    model, needle = braidlm.load("smollm2-135m", dtype="bfloat16"), induction_model(VOCAB, CODE, dtype="bfloat16")
    window = model.spec.max_positions or 8192
    text = given.text.read_text(encoding="utf-8")[: 8 * window * given.windows]
    rows = windows(model.encode(text), given.windows * window, window)
    print(f"| keys and values | divergence | perplexity | {given.needles} needles in {given.length} tokens |")
    print("| --- | --- | --- | --- |")
    found = {}
    for kind in KINDS:
        whole = divergence(model, model, rows, kv_dtype=kind).whole
        share = recall(needle, [needles(given.length, given.needles)], kv_dtype=kind).whole.exact
        found[kind] = whole._asdict() | {"recall": share}
        print(f"| {kind} | {whole.divergence:.5f} | {whole.perplexity:.3f} | {share:.0%} |", flush=True)
    print(f"\nwindows of {window} tokens, bfloat16: perplexity {whole.reference_perplexity:.3f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
