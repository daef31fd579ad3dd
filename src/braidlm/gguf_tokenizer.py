"""Tokenizers from the tables inside GGUF files.

"gpt2" is byte-level BPE with merges; which regular expression cuts a text into words is named in
the metadata. "llama" is SentencePiece BPE: pieces with scores, spaces as U+2581, unknown characters as bytes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from .errors import InputError

_PREFIX = "tokenizer.ggml."
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6

# The word patterns of Llama 3 and of Qwen 2, which differ in how many digits make a word.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_THREE_DIGITS, _ONE_DIGIT = _WORDS.replace("DIGITS", "{1,3}"), _WORDS.replace("DIGITS", "")
_PATTERNS = dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "dbrx", "smaug-bpe"), _THREE_DIGITS)
_PATTERNS |= dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2"), _ONE_DIGIT)
_GPT2 = ("default", "gpt-2", "phi-2", "mpt", "olmo", "jais", "gpt-neox", "roberta-bpe", "modern-bert")
_GPT2_WITH_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")


class Found(NamedTuple):
    """A tokenizer, its named special tokens, its chat template, and further ids that end a text."""

    backend: Tokenizer
    special: dict[str, str]
    chat_template: str | None
    ends: tuple[int, ...]


def read(fields: Mapping[str, Any]) -> Found | None:
    """The tokenizer in a GGUF file's metadata, or None if it has no tables."""
    if f"{_PREFIX}tokens" not in fields:
        return None
    kind = fields.get(f"{_PREFIX}model")
    tokens, types = fields[f"{_PREFIX}tokens"], fields.get(f"{_PREFIX}token_type")
    types = types or [_NORMAL] * len(tokens)
    scores = fields.get(f"{_PREFIX}scores") or [0.0] * len(tokens)
    if not len(tokens) == len(types) == len(scores):
        raise ValueError(f"{len(tokens)} tokens, but {len(types)} types and {len(scores)} scores")
    if kind == "gpt2":
        backend = _byte_level(tokens, fields)
    elif kind == "llama":
        backend = _sentencepiece(tokens, types, fields)
    else:
        raise InputError(f"this GGUF file's tokenizer is of kind {kind!r}; supported are 'gpt2' and 'llama'")
    added = {_CONTROL: True, _UNKNOWN: True, _USER_DEFINED: False}
    special_first = [
        AddedToken(token, special=added[of], normalized=False) for token, of in zip(tokens, types) if of in added
    ]
    backend.add_tokens(special_first)
    special = _special(tokens, fields)
    _add_ends(backend, special, fields)
    ends = [fields.get(f"{_PREFIX}{name}_token_id") for name in ("eos", "eot", "eom")]
    template = fields.get("tokenizer.chat_template")
    return Found(backend, special, template, tuple(int(end) for end in ends if end is not None))


def _special(tokens: list[str], fields: Mapping[str, Any]) -> dict[str, str]:
    theirs = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    ids = {name: fields.get(f"{_PREFIX}{their}_token_id") for their, name in theirs.items()}
    return {f"{name}_token": tokens[i] for name, i in ids.items() if i is not None and i < len(tokens)}


def _byte_level(tokens: list[str], fields: Mapping[str, Any]) -> Tokenizer:
    # A token may stand in the table twice (padding); the first counts.
    vocab = {token: i for i, token in reversed(list(enumerate(tokens)))}
    merges = [_pair(merge, vocab) for merge in fields.get(f"{_PREFIX}merges") or []]
    pattern = fields.get(f"{_PREFIX}pre", "default")
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pattern in _PATTERNS))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern not in _PATTERNS)
    if pattern in _PATTERNS:
        words = pre_tokenizers.Split(Regex(_PATTERNS[pattern]), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([words, byte_level])
    elif pattern in _GPT2_WITH_DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    elif pattern in _GPT2:
        backend.pre_tokenizer = byte_level
    else:
        known = ", ".join(sorted({*_PATTERNS, *_GPT2, *_GPT2_WITH_DIGITS}))
        raise InputError(f"this GGUF file's tokenizer cuts words by {pattern!r}, which is not known; known are {known}")
    backend.decoder = decoders.ByteLevel()
    return backend


def _pair(merge: str, vocab: Mapping[str, int]) -> tuple[str, str]:
    """The two tokens of a merge. The library would panic where they, or what they make, are no tokens."""
    first, space, second = merge.partition(" ")
    if not space or not {first, second, first + second} <= vocab.keys():
        raise ValueError(f"the merge {merge!r} does not make a token of the vocabulary out of two others")
    return first, second


def _sentencepiece(tokens: list[str], types: list[int], fields: Mapping[str, Any]) -> Tokenizer:
    scores = fields[f"{_PREFIX}scores"]
    vocab = {token: i for i, token in reversed(list(enumerate(tokens)))}
    unknown = next((token for token, of in zip(tokens, types) if of == _UNKNOWN), None)
    mergeable = {token for token, of in zip(tokens, types) if of == _NORMAL}
    backend = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=_merges(tokens, scores, mergeable, vocab),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=any(of == _BYTE for of in types),
        )
    )
    # A space is put before every text, also one that begins with a space, and taken off again.
    prefixed = fields.get(f"{_PREFIX}add_space_prefix", True)
    spaces = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefixed else spaces
    strip = [decoders.Strip(" ", 1, 0)] if prefixed else []
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    backend.decoder = decoders.Sequence(parts)
    return backend


def _merges(
    tokens: list[str], scores: list[float], mergeable: set[str], vocab: Mapping[str, int]
) -> list[tuple[str, str]]:
    """Every way to make a piece out of two pieces, best piece first: SentencePiece has no list of its own."""
    found = []
    for piece, score in zip(tokens, scores):
        if piece in mergeable:
            pairs = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
            ways = [pair for pair in pairs if pair[0] in vocab and pair[1] in vocab]
            ways.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
            found += [(-score, vocab[piece], pair) for pair in ways]
    return [pair for _, _, pair in sorted(found, key=lambda item: item[:2])]


def _add_ends(backend: Tokenizer, special: Mapping[str, str], fields: Mapping[str, Any]) -> None:
    """The start and end tokens that the model wants around every text."""
    sentencepiece = fields.get(f"{_PREFIX}model") == "llama"
    three_digits = _PATTERNS.get(fields.get(f"{_PREFIX}pre", "")) is _THREE_DIGITS
    begins = fields.get(f"{_PREFIX}add_bos_token", sentencepiece or three_digits) and "bos_token" in special
    ends = fields.get(f"{_PREFIX}add_eos_token", False) and "eos_token" in special
    around = [special["bos_token"]] if begins else []
    after = [special["eos_token"]] if ends else []
    if around or after:
        ids = [(token, backend.token_to_id(token)) for token in dict.fromkeys(around + after)]
        single = [*around, "$A", *after]
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
