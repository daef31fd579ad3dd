"""Tokenizers from tiktoken's files: a line a token, its bytes in base64 and its rank (Llama 3's, Qwen 1's)."""

import base64
import binascii
from collections.abc import Mapping

from tokenizers import AddedToken

from .backend import Vocabulary, put_around
from .byte_ranks import of_ranks
from .words import LLAMA3, QWEN2, Words

# By the number of ranks: Llama 3's and 3.1's (meta-llama/llama-models), and Qwen 1's control tokens.
_LLAMA3_NAMES = {
    0: "begin_of_text",
    1: "end_of_text",
    4: "finetune_right_pad_id",
    6: "start_header_id",
    7: "end_header_id",
    8: "eom_id",
    9: "eot_id",
    10: "python_tag",
}
_LLAMA3, _QWEN = 128_000, 151_643
# What of a text tells that it is such a file.
_FIRST = 200


def is_tiktoken(data: bytes) -> bool:
    """Whether a file begins with a token in base64 and its rank."""
    token, _, rank = data[:_FIRST].split(b"\n")[0].strip().partition(b" ")
    try:
        return bool(base64.b64decode(token, validate=True)) and rank.isdigit()
    except binascii.Error:
        return False


def read_tiktoken(data: bytes, added: Mapping[int, AddedToken]) -> Vocabulary:
    """The tokenizer in a file's bytes; control tokens are those of `added`, else the published ones.

    `ValueError` if the file is damaged, or if nothing says which control tokens belong to it.
    """
    lines = [line.split() for line in data.splitlines() if line.strip()]
    ranks = {int(rank): base64.b64decode(token, validate=True) for token, rank in lines}
    if sorted(ranks) != list(range(len(lines))):
        raise ValueError(f"its {len(lines)} ranks must be 0 to {len(lines) - 1}")
    published = _published(len(lines))
    if published is None and not added:
        raise ValueError("nothing says which control tokens belong to it; a tokenizer_config.json must")
    special, words, named = published or ({}, LLAMA3, {})
    if added:
        special = {token.content: i for i, token in added.items()}
    backend = of_ranks([ranks[i] for i in range(len(lines))], special, 0, words)
    put_around(backend, [named["bos_token"]] if named.get("bos_token") in special else [], [])
    return Vocabulary(backend, named)


def _published(count: int) -> tuple[dict[str, int], Words, dict[str, str]] | None:
    """Control tokens, how words are cut, and the named ones, of vocabularies that are known by their size."""
    if count == _LLAMA3:
        free = iter(range(256))
        names = [_LLAMA3_NAMES.get(i) or f"reserved_special_token_{next(free)}" for i in range(256)]
        special = {f"<|{name}|>": count + i for i, name in enumerate(names)}
        return special, LLAMA3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    if count == _QWEN:
        named = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))]
        special = {name: count + i for i, name in enumerate(named)}
        return special, QWEN2._replace(whole=True), {"eos_token": "<|endoftext|>"}
    return None
