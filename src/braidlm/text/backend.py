"""Vocabularies as their readers return them, and the parts of a `tokenizers` backend that several readers build."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat, starmap
from operator import add, contains
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from .words import Words

# Readers try every place to cut a token in two. Published tokens have a few hundred characters at most.
_LONGEST, _MOST_CHARACTERS = 2048, 1 << 24


class Vocabulary(NamedTuple):
    """A backend with the texts of its named special tokens (`bos_token`, `eos_token`, ...)."""

    backend: Tokenizer
    special: dict[str, str]


def check_lengths(tokens: Sequence[str] | Sequence[bytes]) -> None:
    """`ValueError` for a vocabulary whose tokens are so long that cutting them would have no end."""
    longest, total = max(map(len, tokens), default=0), sum(map(len, tokens))
    if longest > _LONGEST or total > _MOST_CHARACTERS:
        raise ValueError(
            f"its longest token has {longest} characters and all of them {total}, but must have at most {_LONGEST} "
            f"and {_MOST_CHARACTERS}"
        )


def byte_level(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], words: Words) -> Tokenizer:
    """Byte-level BPE, words cut by `words`. `vocab` holds all that the merges make, bytes as GPT-2 spells them."""
    backend = Tokenizer(models.BPE(vocab=dict(vocab), merges=list(merges), ignore_merges=words.whole))
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in words.patterns]
    level = pre_tokenizers.ByteLevel(add_prefix_space=words.prefix_space, use_regex=words.gpt2)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*cuts, level]) if cuts else level
    if words.nfc:
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    return backend


def merges_of(lines: Sequence[str], vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """The two tokens of each merge. The library would panic where they, or what they make, are no tokens."""
    pairs = [(first, second) for first, _, second in [line.partition(" ") for line in lines]]
    parts = {*chain.from_iterable(pairs), *starmap(add, pairs)}
    if not parts <= vocab.keys() or not all(map(contains, lines, repeat(" "))):
        wrong = (line for line, pair in zip(lines, pairs, strict=True) if not {*pair, add(*pair)} <= vocab.keys())
        line = next(wrong, None) or next(line for line in lines if " " not in line)
        raise ValueError(f"the merge {line!r} does not make a token of the vocabulary out of two others")
    return pairs


def put_around(backend: Tokenizer, before: Iterable[str], after: Iterable[str]) -> None:
    """Makes `before` and `after` the tokens that stand around every text."""
    begin, end = list(before), list(after)
    if begin or end:
        ids = [(token, backend.token_to_id(token)) for token in dict.fromkeys(begin + end)]
        single = [*begin, "$A", *end]
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)


def put_named_around(
    backend: Tokenizer, config: Mapping[str, Any], special: Mapping[str, str], *, begins: bool, ends: bool
) -> None:
    """Puts the start and end tokens around every text where tokenizer_config.json wants them, or else the defaults do.

    A token that the config names counts more than that of `special`.
    """
    vocab = backend.get_vocab()
    wanted = []
    for kind, default in (("bos", begins), ("eos", ends)):
        token = content_of(config.get(f"{kind}_token")) or special.get(f"{kind}_token", "")
        asked = config.get(f"add_{kind}_token")
        wanted.append([token] if (default if asked is None else asked) and token in vocab else [])
    put_around(backend, *wanted)


def content_of(token: Any) -> str:
    """A special token's text: written plainly, or as an object with its properties."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else ""


def control(token: str) -> AddedToken:
    """A control token, found in the text as it is written."""
    return AddedToken(token, special=True, normalized=False)
