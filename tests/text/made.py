"""Small tokenizers of every kind, and how they are written to files and tables."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import transformers
from hypothesis import settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from braidlm.text.tokenizer import Settings, Tokenizer

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LINES = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "naïve café — 数える 😀 don't they'll",
    "def f(x):\n    return x + 12345\n\n\n",
]
TEXTS = (*LINES, "", " ", "a", "  two  spaces", "\t\n", "The\u00a0fox 👩‍👩‍👧", "<|im_end|>", "x<|im_start|>user")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [{"role": "user", "content": "Hé <b> & 'you'"}]
RENDERED = "<|im_start|>user\nHé <b> & 'you'<|im_end|>\n<|im_start|>assistant\n"

properties = settings(max_examples=60, deadline=None, derandomize=True)


@cache
def backend() -> Backend:
    """A byte-level BPE with 40 merges, trained on a few lines."""
    made = Backend(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=299, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(LINES * 4, trainer)
    return made


@cache
def byte_level() -> Tokenizer:
    return Tokenizer(backend(), Settings({"eos_token": "<|im_end|>"}, TEMPLATE))


def directory(path: Path, config: dict[str, Any] | None = None, **files: Any) -> Path:
    """A directory with the tokenizer, this config, and other files."""
    backend().save(str(path / "tokenizer.json"))
    if config is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def opened(path: Path) -> Tokenizer:
    found = Tokenizer.from_directory(path)
    assert found is not None
    return found


NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
PIECES = "▁ a b t h e c o é \n th he the ▁t ▁th ▁the ab abc ▁a ▁ab bo co coat at oa ▁▁ ▁▁▁▁ cab ca < s > <s".split(" ")
FIRST_BYTE, FIRST_PIECE = 3, 3 + 256
TOOL = "<tool>"


def fields(**given: Any) -> dict[str, Any]:
    """GGUF metadata; `...` leaves a key out."""
    return {f"tokenizer.ggml.{name}": value for name, value in given.items() if value is not ...}


@cache
def sentencepiece(**more: Any) -> Tokenizer:
    """Three control tokens, all bytes, pieces with falling scores, and one token of the user's."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES, TOOL]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(PIECES), USER_DEFINED]
    scores = [0.0] * FIRST_PIECE + [-float(rank) for rank in range(len(PIECES))] + [0.0]
    named = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    table = {"model": "llama", "tokens": tokens, "scores": scores, "token_type": types}
    found = Tokenizer.from_gguf(fields(**table, **named, **more))
    assert found is not None
    return found


ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def gpt2(**more: Any) -> Tokenizer:
    """All bytes, a few merges, a whole word that no merge makes, and two control tokens."""
    tokens = [*ALPHABET, "34", "12", "he", "hello", "<|im_start|>", "<|im_end|>"]
    types = [NORMAL] * (len(ALPHABET) + 4) + [CONTROL] * 2
    table = {"model": "gpt2", "tokens": tokens, "token_type": types, "merges": ["3 4", "1 2", "h e"]}
    found = Tokenizer.from_gguf(fields(**table | {"pre": "gpt-2", "eos_token_id": len(tokens) - 1} | more))
    assert found is not None
    return found


def texts_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.decode([i]) for i in tokenizer.encode(text, add_bos=False)]


def merged(text: str, prefix: bool) -> list[int]:
    """SentencePiece by its definition: again and again, of all neighbours that make a piece the best one, leftmost."""
    rank = {piece: i for i, piece in enumerate(PIECES)}
    parts = list(("▁" if prefix and text else "") + text.replace(" ", "▁"))
    while pairs := [(rank[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in rank]:
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [i for part in parts for i in ids_of(part, rank)]


def ids_of(part: str, rank: dict[str, int]) -> Iterator[int]:
    if part in rank:
        yield FIRST_PIECE + rank[part]
    else:
        yield from (FIRST_BYTE + byte for byte in part.encode())


forged = st.lists(st.one_of(st.sampled_from([*SPECIAL, "</s>", "<s>", "<|im_", "end|>"]), st.text(max_size=6)))
forgeries = forged.map("".join)


def saved(tokenizer: Tokenizer, path: Path) -> transformers.PreTrainedTokenizerBase:
    tokenizer.save(path)
    return transformers.AutoTokenizer.from_pretrained(path)
