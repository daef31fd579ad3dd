"""Tokenizers from the tables inside GGUF files.

"gpt2" is byte-level BPE with merges; which regular expressions cut a text into words is named in the metadata. "llama"
is SentencePiece BPE: pieces with scores, spaces as U+2581, unknown characters as bytes; "t5" is SentencePiece Unigram.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

from ..errors import InputError, quoted
from . import pieces as sentencepiece
from .backend import byte_level, merges_of, put_around
from .chat_templates import ChatTemplates, read_gguf_templates
from .pieces import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Piece, check_table
from .words import BY_NAME, Words

_PREFIX = "tokenizer.ggml."
_KINDS = ("gpt2", "llama", "t5", "gemma4")
_WITHOUT = ("none", "no_vocab")


class Found(NamedTuple):
    """A tokenizer, its special tokens by name, chat templates, further ids that end a text, rule to cut words."""

    backend: Tokenizer
    special: dict[str, str]
    templates: ChatTemplates
    ends: tuple[int, ...]
    pre: str | None
    largest_id: int


def read(fields: Mapping[str, Any]) -> Found | None:
    """The tokenizer in a GGUF file's metadata, or None if it has no tables.

    `ValueError` and its like for tables that are damaged; `InputError` for a kind that is not supported.
    """
    kind = fields.get(f"{_PREFIX}model")
    if kind in _WITHOUT or f"{_PREFIX}tokens" not in fields:
        return None
    if kind not in _KINDS:
        raise InputError(
            f"this GGUF file's tokenizer is of kind {quoted(kind, 80)}; supported are {', '.join(map(repr, _KINDS))}"
        )
    table = _table(fields)
    backend = _byte_level(table, fields) if kind == "gpt2" else _sentencepiece(str(kind), table, fields)
    added = {CONTROL: True, UNKNOWN: True, USER_DEFINED: False}
    if kind == "t5":  # pieces of the user's are pieces like others there
        del added[USER_DEFINED]
    named = [(token, added[of]) for token, of in zip(table.tokens, table.kinds) if of in added]
    backend.add_tokens([AddedToken(token, special=control, normalized=False) for token, control in named])
    special = {f"{name}_token": table.tokens[i] for name, i in _named_ids(fields, len(table.tokens))}
    _add_ends(backend, special, fields)
    ends = dict.fromkeys(_ends(fields, len(table.tokens)))
    pre = fields.get(f"{_PREFIX}pre")
    pre = pre if isinstance(pre, str) else None
    return Found(backend, special, read_gguf_templates(fields), tuple(ends), pre, len(table.tokens) - 1)


def _ends(fields: Mapping[str, Any], size: int) -> Iterator[int]:
    """Ids that end a text: of a text, a turn and a message, and those that Ollama lists."""
    for name in ("eos", "eot", "eom"):
        found = _id(fields, name, size)
        if found is not None:
            yield found
    listed = fields.get(f"{_PREFIX}eos_token_ids", [])
    if not isinstance(listed, list):
        raise ValueError(f"eos_token_ids is {quoted(listed, 40)}, but must be a list of ids")
    yield from (i for i in listed if isinstance(i, int) and 0 <= i < size)


class _Table(NamedTuple):
    """One entry a token: its text, its score, and what kind it is (`text.pieces`)."""

    tokens: list[str]
    scores: list[float]
    kinds: list[int]


def _table(fields: Mapping[str, Any]) -> _Table:
    tokens = fields[f"{_PREFIX}tokens"]
    kinds = fields.get(f"{_PREFIX}token_type") or [NORMAL] * len(tokens)
    scores = fields.get(f"{_PREFIX}scores") or [0.0] * len(tokens)
    # Some tools write 0 ("undefined") for ordinary tokens.
    kinds = [NORMAL if kind == 0 else kind for kind in kinds] if 0 in kinds else kinds
    check_table(tokens, scores, kinds)
    return _Table(tokens, scores, kinds)


def _named_ids(fields: Mapping[str, Any], size: int) -> Iterator[tuple[str, int]]:
    for source, name in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        found = _id(fields, source, size)
        if found is not None:
            yield name, found


def _id(fields: Mapping[str, Any], name: str, size: int) -> int | None:
    """The id of a named token; None if there is none, or (2^32-1 is written for none) it is none of the table."""
    found = fields.get(f"{_PREFIX}{name}_token_id")
    if found is None:
        return None
    if isinstance(found, bool) or int(found) != found:
        raise ValueError(f"the {name} token's id is {quoted(found, 40)}, but must be a whole number")
    return int(found) if 0 <= found < size else None


def _flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    value = fields.get(f"{_PREFIX}{name}", default)
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {quoted(value, 40)}, but must be true or false")
    return value


def _words(fields: Mapping[str, Any]) -> Words:
    name = fields.get(f"{_PREFIX}pre", "default")
    if name not in BY_NAME:
        raise InputError(
            f"this GGUF file's tokenizer cuts words by {quoted(name, 80)}, which is not known; known are "
            f"{', '.join(sorted(BY_NAME))}"
        )
    return BY_NAME[name]


def _byte_level(table: _Table, fields: Mapping[str, Any]) -> Tokenizer:
    # A token may stand in the table twice (padding); the first counts.
    vocab = dict(zip(reversed(table.tokens), reversed(range(len(table.tokens))), strict=True))
    return byte_level(vocab, _merges(fields, vocab), _words(fields))


def _merges(fields: Mapping[str, Any], vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    return merges_of(fields.get(f"{_PREFIX}merges") or [], vocab)


def _sentencepiece(kind: str, table: _Table, fields: Mapping[str, Any]) -> Tokenizer:
    pieces = [Piece(*entry) for entry in zip(*table)]
    if kind == "gemma4":
        return _merged_pieces(pieces, fields)
    backend = sentencepiece.unigram(pieces) if kind == "t5" else sentencepiece.bpe(pieces)
    before: list[normalizers.Normalizer] = []
    charsmap = fields.get(f"{_PREFIX}precompiled_charsmap")
    if kind == "t5" and charsmap:
        before.append(normalizers.Precompiled(bytes(bytearray(int(byte) & 255 for byte in charsmap))))
    if _flag(fields, "remove_extra_whitespaces", False):
        before += [normalizers.Replace(Regex(r"\A +|[ ▁]+\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    prefixed = _flag(fields, "add_space_prefix", True)
    sentencepiece.escape_spaces(backend, "each" if prefixed else "never", before)
    return backend


def _merged_pieces(pieces: Sequence[Piece], fields: Mapping[str, Any]) -> Tokenizer:
    """Pieces with a list of merges: Gemma's from the fourth on."""
    backend = sentencepiece.bpe(pieces, _merges(fields, {piece.text: i for i, piece in enumerate(pieces)}))
    sentencepiece.escape_spaces(backend, "never")
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n+"), "isolated")
    return backend


def _add_ends(backend: Tokenizer, special: Mapping[str, str], fields: Mapping[str, Any]) -> None:
    """The start and end tokens that the model wants around every text."""
    kind = fields.get(f"{_PREFIX}model")
    wanted = kind in ("llama", "gemma4") or (kind == "gpt2" and _words(fields).bos)
    begins = _flag(fields, "add_bos_token", wanted) and "bos_token" in special
    ends = _flag(fields, "add_eos_token", kind == "t5") and "eos_token" in special
    put_around(backend, [special["bos_token"]] if begins else [], [special["eos_token"]] if ends else [])
