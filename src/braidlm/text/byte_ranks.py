"""Vocabularies of byte strings with ranks (tiktoken's form) as byte-level BPE.

Of two neighbours that make a token, those merge first whose token has the lowest rank; so every way to make a token out
of two others is a merge, in the order of the tokens' ranks.
"""

from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer

from .backend import byte_level, check_lengths, control
from .words import Words


def _spelling() -> list[str]:
    """The character for each byte, as GPT-2 has it: printable ones stand for themselves, others come from U+0100 on."""
    printed = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in printed]
    return [chr(byte) if byte in printed else chr(256 + hidden.index(byte)) for byte in range(256)]


_SPELLING = dict(enumerate(_spelling()))


def of_ranks(tokens: Sequence[bytes], special: Mapping[str, int], first: int, words: Words) -> Tokenizer:
    """A backend from byte strings in the order of their ranks, whose ids begin at `first`, and from control tokens.

    `ValueError` if a byte is missing, so that some text would have no ids, or if a token stands there twice.
    """
    check_lengths(tokens)
    ranks = {token: i for i, token in enumerate(tokens)}
    if len(ranks) < len(tokens):
        raise ValueError("a token stands in the vocabulary twice")
    if not all(bytes([byte]) in ranks for byte in range(256)):
        raise ValueError("the vocabulary lacks some of the 256 bytes")
    spelled = {token: token.decode("latin-1").translate(_SPELLING) for token in tokens}
    merges = []
    for token, rank in ranks.items():
        ways = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        pairs = [(ranks[a], ranks[b], a, b) for a, b in ways if a in ranks and b in ranks]
        if len(token) > 1 and not pairs and not words.whole:
            raise ValueError(f"token {rank} cannot be made of two others")
        merges += [(spelled[a], spelled[b]) for _, _, a, b in sorted(pairs)]
    vocab = {spelled[token]: first + rank for token, rank in ranks.items()}
    clash = next((token for token in special if token in vocab), None)
    if clash is not None:
        raise ValueError(f"the control token {clash!r} is a token of the vocabulary too")
    backend = byte_level(vocab | dict(special), merges, words)
    backend.add_tokens([control(token) for token in special])
    return backend
