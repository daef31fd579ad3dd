"""Tokenizers from SentencePiece's `tokenizer.model`: BPE, Unigram and characters."""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, normalizers

from .backend import Vocabulary, put_named_around
from .pieces import CONTROL, NORMAL, USER_DEFINED, Piece, add_special, bpe, check_table, escape_spaces, unigram
from .sentencepiece_file import BPE, CHAR, UNIGRAM, SentencePieceModel, parse_sentencepiece

_KINDS = (UNIGRAM, BPE, CHAR)


def read_sentencepiece(data: bytes, config: Mapping[str, Any], added: Mapping[int, AddedToken]) -> Vocabulary:
    """The tokenizer in a file's bytes. `config` is tokenizer_config.json, `added` the tokens that are added there.

    `ValueError` if the file is damaged, or of a kind that is not supported. `legacy` true in the config (the default of
    transformers 4) puts a space also behind control tokens.
    """
    model = parse_sentencepiece(data)
    table = model.pieces
    check_table([piece.text for piece in table], [piece.score for piece in table], [piece.kind for piece in table])
    if model.kind not in _KINDS or model.space_behind or not model.escape_spaces:
        raise ValueError("its way to cut words or to write spaces is not supported; a tokenizer.json is needed")
    pieces = _with_added(model.pieces, added)
    by_merges = model.kind != UNIGRAM
    backend = bpe(pieces) if by_merges else unigram(pieces)
    defined = [piece.text for piece in model.pieces if by_merges and piece.kind == USER_DEFINED]
    escape_spaces(backend, _prefix(model, config), _normalizers(model), defined)
    add_special(backend, model.pieces, user_defined=by_merges)
    backend.add_tokens(list(added.values()))
    special = _special(model)
    put_named_around(backend, config, special, begins=not _is_t5(config), ends=_is_t5(config))
    return Vocabulary(backend, special)


def _is_t5(config: Mapping[str, Any]) -> bool:
    return str(config.get("tokenizer_class", "")).startswith("T5")


def _with_added(pieces: Sequence[Piece], added: Mapping[int, AddedToken]) -> list[Piece]:
    """The table with the added tokens at their ids; what lies between gets names that no text holds."""
    known = {piece.text for piece in pieces}
    found = list(pieces)
    for i, token in sorted(added.items()):
        if token.content in known:
            continue
        if i < len(pieces):
            found[i] = Piece(token.content, 0.0, CONTROL)
            continue
        found += [Piece(f"\ufdd2{gap}", 0.0, CONTROL) for gap in range(len(found), i)]
        found.append(Piece(token.content, 0.0, CONTROL))
    return found


def _special(model: SentencePieceModel) -> dict[str, str]:
    there = {name: i for name, i in model.ids.items() if 0 <= i < len(model.pieces)}
    return {f"{name}_token": model.pieces[i].text for name, i in there.items() if model.pieces[i].kind != NORMAL}


def _prefix(model: SentencePieceModel, config: Mapping[str, Any]) -> str:
    """Places where a space is put: never, before each part of a text, or before the first alone."""
    if config.get("add_prefix_space") is False or not model.dummy_prefix:
        return "never"
    return "first" if config.get("legacy") is False else "each"


def _normalizers(model: SentencePieceModel) -> list[normalizers.Normalizer]:
    found: list[normalizers.Normalizer] = []
    if model.charsmap:
        # The library looks at a letter with all its marks, and at a line end, as one: it would lose some of them.
        composes = [normalizers.NFC()] if "nfkc" in model.normalizer else []
        lines = [normalizers.Replace("\r\n", "  ")] if "nmt" in model.normalizer else []
        found += [*lines, *composes, normalizers.Precompiled(model.charsmap), *composes]
    if model.one_space:
        edges, several = Regex(r"\A +|[ ▁]+\z"), Regex(" {2,}")
        found += [normalizers.Replace(edges, ""), normalizers.Replace(several, " ")]
    return found
