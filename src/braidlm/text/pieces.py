"""SentencePiece vocabularies as backends of the tokenizers library: pieces with scores, spaces as U+2581.

BPE merges, again and again, the two neighbours that make the piece with the best score. Unigram takes the cut whose
scores have the largest sum. (Kudo and Richardson 2018; the `sentencepiece` library is the oracle of the tests.)
"""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from .backend import check_lengths

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE = "▁"
# Pieces that no text may spell get a score with which no cut is ever the best one.
_NEVER = -1e9


class Piece(NamedTuple):
    """One entry of a table: its text, its score, and what kind it is (`NORMAL`, ...)."""

    text: str
    score: float
    kind: int


def check_table(tokens: Sequence[Any], scores: Sequence[float], kinds: Sequence[int]) -> None:
    """`ValueError` for tables that mean nothing.

    No tokens, tokens that are too long, scores that are no numbers, kinds that do not exist.
    """
    if not len(tokens) == len(kinds) == len(scores):
        raise ValueError(f"{len(tokens)} tokens, but {len(kinds)} types and {len(scores)} scores")
    if not len(tokens) or set(map(type, tokens)) != {str}:
        raise ValueError("tokens must be texts, and there must be some")
    check_lengths(tokens)
    if not all(map(math.isfinite, scores)):
        raise ValueError("a score is infinite or no number")
    strange = set(kinds) - set(range(NORMAL, BYTE + 1))
    if strange:
        raise ValueError(f"a token is of kind {min(strange)}, but kinds are {NORMAL} to {BYTE}")


def bpe(pieces: Sequence[Piece], listed: Sequence[tuple[str, str]] = ()) -> Tokenizer:
    """A BPE backend without normalizer, pre-tokenizer and decoder; id = place in the table.

    `listed` are its merges, best first, where they do not follow from the scores.
    """
    vocab = {piece.text: i for i, piece in reversed(list(enumerate(pieces)))}
    model = models.BPE(
        vocab=vocab,
        merges=list(listed) or merges(pieces, vocab),
        unk_token=_unknown(pieces),
        fuse_unk=True,
        byte_fallback=_has_bytes(pieces),
    )
    return Tokenizer(model)


def merges(pieces: Sequence[Piece], ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to make a piece out of two pieces, best piece first: SentencePiece has no list of its own."""
    spelled = {piece.text for piece in pieces if piece.kind in (NORMAL, USER_DEFINED, UNUSED)}
    found = []
    for piece in dict.fromkeys(piece for piece in pieces if piece.text in spelled):
        text = piece.text
        pairs = ((text[:cut], text[cut:]) for cut in range(1, len(text)))
        ways = [pair for pair in pairs if pair[0] in spelled and pair[1] in spelled]
        ways.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found += [(-piece.score, ids[text], pair) for pair in ways]
    return [pair for _, _, pair in sorted(found, key=lambda item: item[:2])]


def unigram(pieces: Sequence[Piece]) -> Tokenizer:
    """A Unigram backend without normalizer, pre-tokenizer and decoder; id = place in the table."""
    unknown = next((i for i, piece in enumerate(pieces) if piece.kind == UNKNOWN), None)
    vocab = [(piece.text, _score(piece)) for piece in pieces]
    return Tokenizer(models.Unigram(vocab, unk_id=unknown, byte_fallback=_has_bytes(pieces)))


def _score(piece: Piece) -> float:
    if piece.kind == USER_DEFINED:  # better than any cut of the same text
        return 0.0
    return piece.score if piece.kind == NORMAL else _NEVER


def add_special(backend: Tokenizer, pieces: Sequence[Piece], *, user_defined: bool) -> None:
    """Makes control pieces control tokens; with `user_defined`, also finds those pieces before anything is merged."""
    found = [AddedToken(piece.text, special=True, normalized=False) for piece in pieces if piece.kind in _SPECIAL]
    if user_defined:
        defined = [piece.text for piece in pieces if piece.kind == USER_DEFINED]
        found += [AddedToken(text, special=False, normalized=True) for text in defined]
    backend.add_tokens(found)


_SPECIAL = (UNKNOWN, CONTROL)


def _unknown(pieces: Sequence[Piece]) -> str | None:
    return next((piece.text for piece in pieces if piece.kind == UNKNOWN), None)


def _has_bytes(pieces: Sequence[Piece]) -> bool:
    return any(piece.kind == BYTE for piece in pieces)


def escape_spaces(
    backend: Tokenizer, prefix: str, before: Sequence[normalizers.Normalizer] = (), defined: Sequence[str] = ()
) -> None:
    """Writes spaces as U+2581, after the normalizers `before`; the decoder undoes it.

    `prefix` "each" puts a space before each text and each part of it that follows a control token; "first" only before
    a text; "never" nowhere. A text that begins with a space gets one more, as in SentencePiece. `defined` are pieces of
    the user's that are added tokens: the library normalizes them as it does texts, and they must stay as they are. A
    text that is nothing but one of them cannot be told from it, and gets no space.
    """
    escaped = normalizers.Replace(" ", SPACE)
    prepend = [_prepend(defined)] if prefix == "each" else []
    steps = [*before, *prepend, escaped]
    backend.normalizer = normalizers.Sequence(steps) if len(steps) > 1 else escaped
    if prefix == "first":
        # Only this part of the library knows where a text begins. No space is left in it, so one is always put there.
        first = pre_tokenizers.Metaspace(" ", prepend_scheme="first", split=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [first, pre_tokenizers.Metaspace(SPACE, prepend_scheme="never", split=False)]
        )
    strip = [] if prefix == "never" else [decoders.Strip(" ", 1, 0)]
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    backend.decoder = decoders.Sequence(parts)


def _prepend(defined: Sequence[str]) -> normalizers.Normalizer:
    """Puts U+2581 before a text that is neither empty nor one of `defined`."""
    if not defined:
        return normalizers.Prepend(SPACE)
    others = "|".join(map(re.escape, defined))
    return normalizers.Replace(Regex(rf"\A(?!(?:{others}|)\z)"), SPACE)
