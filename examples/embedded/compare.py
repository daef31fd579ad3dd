"""Bits a byte of held-out text: models, beside a 5-gram with Kneser-Ney smoothing over the same tokens.

    python examples/embedded/compare.py corpus hybrid/model transformer/model braid-6m

Each text is a document of its own, its end a token that counts; of the first token, which a model says nothing about,
all are taken to be equally likely. The 5-gram is given the beginning of a document as context.
"""

import argparse
import math
from pathlib import Path

import kneser_ney
import torch
import torch.nn.functional as F

import braidlm
from braidlm.api.language_model import LanguageModel

ORDER = 5


def nats(language: LanguageModel, documents: list[list[int]]) -> float:
    """Minus the logarithm of the probability of all documents."""
    total = 0.0
    with torch.inference_mode():
        for ids in documents:
            logits = language.forward([ids[:-1]])[0]
            total += float(F.cross_entropy(logits.float(), torch.tensor(ids[1:]), reduction="sum"))
            total += math.log(language.spec.vocab)
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="directory with train.jsonl and eval.jsonl")
    parser.add_argument("models", nargs="+")
    asked = parser.parse_args()
    for number, name in enumerate(asked.models):
        language = braidlm.load(name)
        tokenizer = language.tokenizer
        documents, size = kneser_ney.read(asked.corpus / "eval.jsonl", tokenizer)
        if number == 0:
            start, vocab = tokenizer.vocab_size, tokenizer.vocab_size + 1
            learned, _ = kneser_ney.read(asked.corpus / "train.jsonl", tokenizer)
            counted = kneser_ney.levels(*kneser_ney.laid_out(learned, ORDER, start), ORDER, vocab)
            found = kneser_ney.nats(counted, *kneser_ney.laid_out(documents, ORDER, start), vocab)
            print(f"{found / math.log(2) / size:.4f} bits a byte: {ORDER}-gram of the tokens of {name}")
        print(f"{nats(language, documents) / math.log(2) / size:.4f} bits a byte: {name}", flush=True)
