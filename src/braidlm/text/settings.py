"""Types and names of what a tokenizer's files say, checked before anything of it is believed.

The tokenizers library passes over names in tokenizer.json that it does not know, and takes defaults for those that are
not there.
"""

import json
from collections.abc import Mapping
from typing import Any

from ..errors import quoted
from ..system.suggest import require_spelling

NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_FLAGS = ("add_bos_token", "add_eos_token", "add_prefix_space", "legacy")
_READ = (*NAMED, *_FLAGS, "additional_special_tokens", "added_tokens_decoder", "chat_template", "tokenizer_class")
# Published names that are like those above: tokens around images and sounds.
_LIKE = ("boi_token", "eoi_token", "boa_token", "eoa_token")


def check_settings(settings: Mapping[str, Any]) -> None:
    """`ValueError` for a value of a type that it cannot have, and for a misspelt name of one that is not there."""
    for name in NAMED:
        _require_token(name, settings.get(name))
    for name in _FLAGS:
        if not isinstance(settings.get(name), bool | None):
            raise ValueError(f"{name!r} is {quoted(settings[name])}, but must be true, false or null")
    more = settings.get("additional_special_tokens")
    if not isinstance(more, list | dict | None):
        raise ValueError(f"'additional_special_tokens' are {quoted(more)}, but must be a list of tokens")
    for token in more if isinstance(more, list) else ():
        _require_token("additional_special_tokens", token)
    if not isinstance(settings.get("added_tokens_decoder"), dict | None):
        raise ValueError(f"'added_tokens_decoder' is {quoted(settings['added_tokens_decoder'])}, but must be an object")
    require_spelling(settings, _READ, "it says", like=_LIKE)


# Names in tokenizer.json, and the options of its parts. Tables of tokens have names of their own.
_PARTS = frozenset(
    """version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder model
    type vocab merges dropout unk_token unk_id continuing_subword_prefix end_of_word_suffix fuse_unk byte_fallback
    ignore_merges max_input_chars_per_word
    normalizers pretokenizers processors decoders pattern String Regex content behavior invert add_prefix_space
    trim_offsets use_regex prepend prepend_scheme replacement split individual_digits lowercase strip_accents
    clean_text handle_chinese_chars strip_left strip_right precompiled_charsmap prefix suffix cleanup
    start stop single pair special_tokens sep cls""".split()
)
_TABLES = ("vocab", "merges", "added_tokens", "special_tokens", "truncation", "padding")


def check_tokenizer_names(tokenizer_json: str) -> None:
    """`ValueError` for a misspelt name in the text of a tokenizer.json; what is no JSON is left to the library."""
    try:
        _check_names(json.loads(tokenizer_json))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except json.JSONDecodeError:
        return


def _check_names(part: Any) -> None:
    if isinstance(part, list):
        for item in part:
            _check_names(item)
    elif isinstance(part, dict):
        require_spelling(part, _PARTS, "it says")
        for name, value in part.items():
            if name not in _TABLES:
                _check_names(value)


def _require_token(name: str, value: Any) -> None:
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str) and value is not None:
        raise ValueError(f"{name!r} is {quoted(value)}, but must be a token's text, or an object with its content")
