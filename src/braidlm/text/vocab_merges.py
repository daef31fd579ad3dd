"""Tokenizers from GPT-2's two files: `vocab.json` (tokens with ids) and `merges.txt` (a merge a line, best first)."""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken

from .backend import Vocabulary, byte_level, control, merges_of, put_named_around
from .words import GPT2, QWEN2, Words

# How transformers' classes cut words that read these files; a class of its own says nothing where it is a general one.
_CLASSES: dict[str, Words] = {
    "": GPT2,
    "PreTrainedTokenizer": GPT2,
    "TokenizersBackend": GPT2,
    "GPT2Tokenizer": GPT2,
    "CodeGenTokenizer": GPT2,
    "GPTNeoXTokenizer": GPT2,
    "RobertaTokenizer": GPT2,
    "BartTokenizer": GPT2,
    "LongformerTokenizer": GPT2,
    "Qwen2Tokenizer": QWEN2._replace(nfc=True),
}
_BETWEEN = ("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer")
_SPECIAL = {"GPT2Tokenizer": "<|endoftext|>", "CodeGenTokenizer": "<|endoftext|>", "Qwen2Tokenizer": "<|endoftext|>"}


def read_vocab_merges(
    vocab: Mapping[str, Any], merges: str, config: Mapping[str, Any], added: Mapping[int, AddedToken]
) -> Vocabulary:
    """The tokenizer of both files' contents. `config` is tokenizer_config.json, `added` the tokens that are added.

    `ValueError` if a file is damaged, or if the config names a class whose way to cut words is not known.
    """
    name = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    if name not in _CLASSES:
        known = ", ".join(sorted(filter(None, _CLASSES)))
        raise ValueError(f"how {name} cuts words is not known (known are {known}); a tokenizer.json is needed")
    ids = {token: i for token, i in vocab.items() if isinstance(i, int) and 0 <= i < 1 << 24}
    if len(ids) < len(vocab) or not ids:
        raise ValueError("vocab.json must hold tokens with their ids")
    words = _CLASSES[name]._replace(prefix_space=bool(config.get("add_prefix_space", False)))
    pairs = merges_of(list(_lines(merges)), ids)
    default = _SPECIAL.get(name, "")
    taken = {token.content for token in added.values()}
    ids = {token: i for token, i in ids.items() if i not in added} | {token.content: i for i, token in added.items()}
    backend = byte_level(ids, pairs, words)
    controls = [default] if default in ids and default not in taken else []
    backend.add_tokens([*added.values(), *map(control, controls)])
    special = {"bos_token": default, "eos_token": default} if default in ids else {}
    if name in _BETWEEN:
        special = {"bos_token": "<s>", "eos_token": "</s>"}
    between = name in _BETWEEN
    put_named_around(backend, config, special, begins=between, ends=between)
    return Vocabulary(backend, special)


def _lines(merges: str) -> list[str]:
    lines = [line.rstrip("\r") for line in merges.split("\n")]
    return [line for number, line in enumerate(lines) if line.strip() and (number or not line.startswith("#version"))]
