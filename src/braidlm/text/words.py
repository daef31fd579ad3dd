"""Pre-tokenization of byte-level vocabularies, words before merges: patterns by the names that files give them.

The patterns are those of the published tokenizers (the names are llama.cpp's `tokenizer.ggml.pre`).
"""

from collections.abc import Mapping
from typing import NamedTuple


class Words(NamedTuple):
    """patterns: regular expressions, one after another; gpt2: GPT-2's own behind them, which the library has built in.

    whole: a word that is a token is not merged. bos: a start token is wanted where the file does not say.
    prefix_space: a space is put before a text that has none. nfc: texts are composed first.
    """

    patterns: tuple[str, ...] = ()
    gpt2: bool = False
    whole: bool = False
    bos: bool = False
    prefix_space: bool = False
    nfc: bool = False


GPT2 = Words(gpt2=True)
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_THREE_DIGITS = rf"{_LETTERS}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
ONE_DIGIT = rf"{_LETTERS}|\p{{N}}|{_SIGNS}|{_SPACES}"
_MARKS = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_CASED = f"{_BEFORE}{_UPPER}*{_LOWER}+ENDING|{_BEFORE}{_UPPER}+{_LOWER}*ENDING"
_SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
TEKKEN = rf"{_CASED.replace('ENDING', '')}|\p{{N}}|{_SLASHED}|{_SPACES}"
_GPT4O = rf"{_CASED.replace('ENDING', _ENDINGS + '?')}|\p{{N}}{{1,3}}|{_SLASHED}|{_SPACES}"
_DEEPSEEK_3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
)
_DEEPSEEK_1 = (
    r"[\r\n]",
    r"\s?[\p{Lu}\p{Ll}\p{Lt}]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
    r"\p{N}+",
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}")
LLAMA3 = Words((_THREE_DIGITS,), whole=True, bos=True)
QWEN2 = Words((ONE_DIGIT,))
_GPT2_DIGITS = Words((r"\p{N}",), gpt2=True)
_GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Signs stand alone, and digits come in threes from the left.
_FALCON = Words((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2_PATTERN, "[0-9][0-9][0-9]"))

_NAMES: tuple[tuple[str, Words], ...] = (
    ("default gpt-2 phi-2 mpt olmo jais trillion granite-docling gpt-neox roberta-bpe modern-bert", GPT2),
    ("jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum jina-v1-en jina-v2-code", GPT2),
    ("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", _GPT2_DIGITS),
    ("llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano", LLAMA3),
    ("glm4 glm5", LLAMA3._replace(bos=False)),
    ("dbrx smaug-bpe chatglm-bpe", LLAMA3._replace(whole=False, bos=False)),
    ("qwen2 deepseek-r1-qwen stablelm2 kormo f2llmv2 hunyuan megrez grok-2", QWEN2),
    ("qwen35", QWEN2._replace(patterns=(_MARKS,))),
    ("tekken", Words((TEKKEN,), whole=True, bos=True)),
    ("gpt-4o llama4 kanana2", Words((_GPT4O,))),
    ("deepseek-v3 hunyuan-dense", Words(_DEEPSEEK_3)),
    ("deepseek-coder", Words(_DEEPSEEK_CODER)),
    ("deepseek-llm", Words(_DEEPSEEK_1)),
    ("falcon", _FALCON),
)
BY_NAME: Mapping[str, Words] = {name: words for names, words in _NAMES for name in names.split()}
