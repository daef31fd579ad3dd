"""SentencePiece models, trained on a text."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sentencepiece

from tests.text.made import LINES

CORPUS = [
    *LINES,
    "Việt Nam tiếng \u1ec7 12 345 foo <tool> (a < b) && c; " * 3,
    "하나 둘  셋   네",
    "the fox's def return",
    "<0x41> 0123456789",
]
IDENTITY = {"normalization_rule_name": "identity"}
BPE = IDENTITY | {"model_type": "bpe"}
BYTES = {"byte_fallback": True}
MODELS: dict[str, dict[str, Any]] = {
    "bpe": BPE | BYTES | {"one_space": False},
    "bpe that trims": BPE | BYTES,
    "bpe without bytes": BPE | {"character_coverage": 0.98},
    "bpe without prefix": BPE | {"add_dummy_prefix": False},
    "bpe nmt_nfkc": BPE | BYTES | {"normalization_rule_name": "nmt_nfkc"},
    "bpe digits": BPE | BYTES | {"split_digits": True, "one_space": False},
    "unigram": IDENTITY | BYTES | {"model_type": "unigram", "character_coverage": 1.0},
    "unigram nmt_nfkc": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc"},
    "unigram folded": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc_cf", "one_space": False},
    "characters": IDENTITY | {"model_type": "char"},
    "user's": BPE
    | BYTES
    | {"one_space": False, "add_dummy_prefix": False, "user_defined_symbols": ["<tool>", "\u2581\u2581\u2581", "fox"]},
    "user's with prefix": BPE | BYTES | {"one_space": False, "user_defined_symbols": ["<tool>", "fox"]},
}


@cache
def trained(name: str) -> bytes:
    """A model of a few hundred pieces."""
    options = dict(MODELS[name])
    one_space = options.pop("one_space", True)
    with TemporaryDirectory() as place:
        (Path(place) / "corpus").write_text("\n".join(CORPUS * 4))
        sentencepiece.SentencePieceTrainer.train(
            input=f"{place}/corpus", model_prefix=f"{place}/m", vocab_size=420, hard_vocab_limit=False,
            remove_extra_whitespaces=one_space, minloglevel=2, num_threads=1, **options,
        )  # fmt: skip
        return (Path(place) / "m.model").read_bytes()
